package guard

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
)

// ErrClosed is returned by a [Client] that was closed, or whose [Guard] was.
var ErrClosed = errors.New("guard: the client is closed")

// Kind is what went wrong, for callers that decide by it.
type Kind uint8

// The kinds of errors. Whether one counts against an endpoint is for the caller to say.
const (
	Invalid    Kind = iota + 1 // the URL, or the request, is not one that is sent
	Refused                    // the address is not one that may be reached
	DNS                        // the name has no address, or its servers do not say
	Connect                    // no connection came about
	TLS                        // the handshake failed, or the certificate is not good
	Timeout                    // the time was up
	Reset                      // the connection ended before an answer
	Protocol                   // what was answered is no HTTP
	Headers                    // the answer's headers are too large
	Proxy                      // the proxy cannot be reached, or does not let through
	Credential                 // no token could be had
	Canceled                   // the caller's context was canceled
	kinds
)

var kindNames = [kinds]string{
	"", "invalid", "refused", "dns", "connect", "tls", "timeout", "reset", "protocol", "headers", "proxy", "credential", "canceled",
}

// String gives the kind as a word, as metrics name it.
func (k Kind) String() string {
	if k == 0 || k >= kinds {
		return "unknown"
	}
	return kindNames[k]
}

// Error says why there is no answer.
type Error struct {
	Kind   Kind
	Reason string // may be shown to the endpoint's owner
	cause  error  // of context or syscall; nothing else is let out
}

func (e *Error) Error() string { return e.Reason }

// Unwrap gives the context's error or the system's error number, where it is one of these.
func (e *Error) Unwrap() error { return e.cause }

func fail(k Kind, reason string) *Error { return &Error{Kind: k, Reason: reason} }

// ended tells of a context that is done.
func ended(ctx context.Context, doing string) *Error {
	if err := context.Cause(ctx); errors.Is(err, context.DeadlineExceeded) || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &Error{Kind: Timeout, Reason: doing + " took too long", cause: context.DeadlineExceeded}
	}
	return &Error{Kind: Canceled, Reason: doing + " was canceled", cause: context.Canceled}
}

// connectError tells why a connection to an address did not come about.
func connectError(ctx context.Context, to string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if ctx.Err() != nil {
		return ended(ctx, "connecting to "+to)
	}
	e := &Error{Kind: Connect, Reason: "connecting to " + to + " failed"}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		e.cause = errno
		switch errno {
		case syscall.ECONNREFUSED:
			e.Reason = to + " refuses connections"
		case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.EADDRNOTAVAIL:
			e.Reason = "there is no route to " + to
		case syscall.ETIMEDOUT:
			e.Kind, e.Reason = Timeout, "connecting to "+to+" took too long"
		case syscall.ECONNRESET:
			e.Kind, e.Reason = Reset, to+" reset the connection while it was opened"
		}
	}
	return e
}

// tlsError tells why a handshake failed.
func tlsError(ctx context.Context, with string, err error) *Error {
	if ctx.Err() != nil {
		return ended(ctx, "the TLS handshake with "+with)
	}
	if reason := tlsReason(err); reason != "" {
		return fail(TLS, "TLS with "+with+": "+reason)
	}
	if broken(err) {
		return fail(TLS, "TLS with "+with+": the connection was closed during the handshake")
	}
	return fail(TLS, "TLS with "+with+": the handshake failed")
}

// tlsReason gives the reason of an error that is TLS's, or "".
func tlsReason(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the certificate is signed by an unknown authority"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate is not for this host"
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return "the certificate has expired or is not yet valid"
		}
		return "the certificate is not valid"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the certificate cannot be verified"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "what was answered is no TLS"
	}
	if e, ok := errors.AsType[tls.AlertError](err); ok {
		return "the peer ended it with the alert " + e.Error()
	}
	// The alerts of a peer are of a type of the standard library's own within an [net.OpError].
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" {
		return "the peer ended it with the alert " + strings.TrimPrefix(e.Err.Error(), "tls: ")
	}
	return ""
}

// broken reports whether a connection ended.
func broken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}

// exchangeError tells why a request that may have been sent has no answer. What net/http says holds bytes of the peer's,
// which may be our credential sent back: none of it is passed on.
func exchangeError(ctx context.Context, host string, err error) *Error {
	if ctx.Err() != nil {
		return ended(ctx, "the request to "+host)
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok && errno == syscall.ETIMEDOUT {
		return &Error{Kind: Timeout, Reason: host + " stopped answering", cause: errno}
	}
	if reason := tlsReason(err); reason != "" {
		return fail(TLS, "TLS with "+host+": "+reason)
	}
	// These have no types of their own in net/http.
	text := err.Error()
	switch {
	case has(text, "net/http: invalid "):
		return fail(Invalid, "the request has a method or a header that cannot be sent")
	case has(text, "response headers exceeded", "header list too large", "header list larger than", "informational responses too large"):
		return fail(Headers, "the headers of the answer of "+host+" are larger than 64 KiB")
	case broken(err), has(text, "server closed idle connection", "stream error", "GOAWAY", "client connection lost", "client connection force closed", "http2: client conn"):
		return fail(Reset, host+" ended the connection without an answer")
	default:
		return fail(Protocol, "what "+host+" answered is no HTTP that could be read")
	}
}

func has(text string, parts ...string) bool {
	for _, p := range parts {
		if strings.Contains(text, p) {
			return true
		}
	}
	return false
}
