// Package guard is the one way by which the server sends HTTP to addresses that customers name: deliveries to endpoints,
// their verification, and the token requests of their credentials.
//
// What it guarantees:
//
//   - No connection is opened to an address that is not public, whatever a URL or a name server says: loopback, private,
//     link-local, shared, documentation, benchmark, multicast and reserved addresses, those of metadata services, and
//     those that carry another address inside (NAT64, 6to4, Teredo, IPv4-mapped). The address that was checked is the one
//     that is dialled, and it is checked again by the socket's control function. Only what [Config] opens is open.
//   - Where a proxy is configured everything goes through it by CONNECT, and it is the proxy that knows addresses; those
//     that a URL spells out are refused here all the same.
//   - Redirects are not followed, environment variables name no proxy, no cookie is kept, no compression is asked for.
//   - A [Client] belongs to one owner and one credential. Its connections, TLS sessions and tokens are nobody else's.
//   - All waiting ends with the context, and where that has no deadline with [Config].Timeout. Of an answer at most 64 KiB
//     of headers, those of informational answers counted, and 64 KiB of body are read, and 4 KiB of the body are kept.
//     Idle connections are bounded per client and host, and over all clients, of which the one unused for longest gives
//     way first. An idle client costs a few hundred bytes.
//   - A request may be sent a second time where a connection that had been idle broke under it: it is at least once.
//   - Errors are of the type [*Error]. Their texts hold no credential, no query, no text of the peer's, and no address
//     that a name has.
//
// All methods may be called concurrently.
package guard
