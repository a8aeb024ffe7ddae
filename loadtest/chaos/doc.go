// Package chaos holds the server to its promises while what it stands on is killed, paused and cut.
//
// [Run] starts three Kafka nodes, a Redis and three replicas of the server as processes of their own, with toxiproxy
// on every line between them and to the clients. Publishers send numbered events of many keys, each again until it is
// acknowledged; clients read them over every transport and come back, with their cursors, through any replica. A
// schedule drawn from a seed kills, pauses, restarts, empties and cuts meanwhile. At the end everything is repaired, and all
// clients must become whole.
//
// What is sent, acknowledged, given, said and broken goes to a [Journal], a file of JSON lines. [Check] reads the file
// alone, in bounded memory but for an index of the log, and compares what each client was given with what the log holds,
// read from Kafka itself. It finds every [Violation] of a [Promise], whichever run wrote the journal: the tests forge
// journals that break each promise.
//
// A seed repeats a run's draws: what is done to what, when and for how long. What was under way at that moment is the
// machine's own draw.
package chaos
