package loadtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// endpoint is where a URL leads, resolved once.
type endpoint struct {
	url     *url.URL
	address string // host:port
	tls     bool
}

func resolve(raw string) (endpoint, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return endpoint{}, fmt.Errorf("url %q: %w", raw, err)
	}
	e := endpoint{url: u}
	port := u.Port()
	switch u.Scheme {
	case "http", "ws":
		if port == "" {
			port = "80"
		}
	case "https", "wss":
		e.tls = true
		if port == "" {
			port = "443"
		}
	default:
		return endpoint{}, fmt.Errorf("url %q: expected http://, https://, ws:// or wss://", raw)
	}
	if u.Hostname() == "" {
		return endpoint{}, fmt.Errorf("url %q has no host", raw)
	}
	e.address = net.JoinHostPort(u.Hostname(), port)
	return e, nil
}

// addQuery appends name=value pairs to a URL. Values are escaped, placeholders are filled in before that.
func addQuery(raw string, pairs []string, i, lane int) (string, error) {
	raw = expand(raw, i, lane)
	if len(pairs) == 0 {
		return raw, nil
	}
	var b strings.Builder
	b.WriteString(raw)
	sep := byte('?')
	if strings.Contains(raw, "?") {
		sep = '&'
	}
	for _, pair := range pairs {
		name, value, ok := strings.Cut(pair, "=")
		if !ok {
			return "", fmt.Errorf("query %q: expected name=value", pair)
		}
		b.WriteByte(sep)
		b.WriteString(url.QueryEscape(name) + "=" + url.QueryEscape(expand(value, i, lane)))
		sep = '&'
	}
	return b.String(), nil
}

// appendRequest appends a GET request.
func appendRequest(dst []byte, uri, host string, header http.Header, cursor []byte, f format) []byte {
	dst = append(dst, "GET "+uri+" HTTP/1.1\r\nHost: "+host+"\r\nAccept: "+f.accept()+"\r\nCache-Control: no-cache\r\n"...)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		for _, v := range header[name] {
			dst = append(dst, name+": "+v+"\r\n"...)
		}
	}
	if len(cursor) > 0 {
		dst = append(dst, "Last-Event-ID: "...)
		dst = append(dst, cursor...)
		dst = append(dst, "\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// pause is how long a reader waits before it comes back: exactly what the server asked for, as browsers do; else about a second.
func pause(asked time.Duration) time.Duration {
	if asked > 0 {
		return asked
	}
	return time.Second/2 + rand.N(time.Second)
}
