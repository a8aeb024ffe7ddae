// Package leases shares numbers out among replicas: of what there is in all, each may use what it has been granted, about
// what it can use.
//
// What it guarantees:
//
//   - The unexpired grants of one key never exceed its total, whatever Redis delays, loses on the way or does twice, and
//     whichever replicas die. Only a Redis that lost its data may grant again what is granted already, for one
//     [Config].TTL at most, and one whose clock is put forward may for as long. Where replicas are told different
//     totals, the largest told within the last TTL holds.
//   - Who wants no more than its fair part gets what it wants; the others get equal parts of what is left, in whole units
//     and one remainder, so that nothing that is wanted lies idle. Where there is less than a unit for each, they take
//     turns.
//   - A replica that comes to want something has its part a few renewals later: those who have more give it back at their
//     next, and say so at once. What a dead replica held is free after the TTL.
//   - Share and InUse never block. Without Redis grants end with their TTL, and Share says so.
//   - Memory is bounded by the number of keys; those that nobody asks for are given back.
//
// All methods may be called concurrently. Run must run for anything to be granted.
package leases
