// Package loadtest measures servers that stream events: how long an event takes from its publisher to every reader,
// what is lost, doubled or disordered on the way, and what it costs the server in processor time and memory.
//
// It is one lean client for any server. Readers speak SSE, NDJSON or pages (over a raw epoll loop of their own, so that ten
// thousand connections leave the processor to the server under test) or WebSocket; publishers post to any URL or feed any
// command. [Run] leads any number of them, in one process or several.
// Every event carries a mark in its content (run, lane, sequence number, time of sending), and nothing but that mark is
// believed: a loss is a sequence number that a reader should have got and did not.
//
// Where the server sends events itself, to webhooks, the readers are endpoints in a process of their own ([Webhooks]).
//
// A lane is a numbered sequence of events that its server must keep in order; by default each lane has its own
// subject. Times are the wall clock of one machine, so publisher and readers must run on the same one.
package loadtest
