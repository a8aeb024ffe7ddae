// Package gateway is the HTTP edge and nothing else: it turns requests into calls of the packages below, and what
// they answer into HTTP. routes.go shows the whole API on one screen.
//
// What it guarantees:
//
//   - "persisted" is answered only for events that the log has acknowledged.
//   - Every answer carries a request id; every error is an RFC 9457 problem that says what was expected and what to do.
//   - Everything that a request can make the server hold is bounded: headers, bodies (also inflated, also all of them
//     together), the time that a body may take.
//   - A panic is logged, counted, and ends only the request in which it happened.
//
// All handlers may run concurrently.
package gateway
