// Package hostile attacks a server that streams events, in the ways of clients that mean no good or are badly broken, while
// ordinary readers and a publisher go on beside it ([Run]).
//
// What it finds out is whether the others notice: their latency in windows with the attack against that in quiet windows
// between, by the same client in the same minute; whether they lost anything, by content; and what the server held of memory
// and descriptors before, at most, and after. How the server answered is counted too.
//
// The attacker is to be cheap, since it usually shares its machine with the server: what it costs would be held against the
// server otherwise. So it opens connections at a bounded rate and each of them acts at a pace, and what is sent is made once.
// More pressure comes from more connections.
package hostile
