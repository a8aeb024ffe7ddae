// Package demo is a control centre that publishes the trains of Norway: an ordinary publisher through POST /v1/events.
//
// It maps the present time of day in Oslo onto one real day's timetable and publishes each running train's position every
// few seconds, its arrivals and departures, and changes of its delay. What happens to a train on a date is determined by
// the date and the train alone, so every replica and every restart tells the same story, and an event's id is the same
// whoever publishes it.
//
// Each event carries in data.sequence its number among its train's events of that stream, counted up by one. A reader
// that sees the numbers without a hole has lost nothing. A publisher that starts reads from the log where it stood and
// counts on; where that is not possible it begins at 1 again.
//
// Run needs nothing but the gateway, waits for it as long as it is away, and drops nothing that happened meanwhile, up
// to ten minutes; only positions that nobody needs any more are not made up for.
package demo
