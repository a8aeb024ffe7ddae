// Package web holds the pages and the JavaScript client, embedded: ES modules as they are served, without a build step,
// without third-party code, and without a request to anywhere else.
//
// The handler is safe for concurrent use. Everything it serves is fixed when it is made.
package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"

	"github.com/eventissuer/eventissuer/internal/demo/timetable"
)

//go:embed page client catalog subscriptions
var embedded embed.FS

// FS is what is served: the page at its root, the client under client/, the catalogue under catalog/, the
// subscriptions under subscriptions/.
func FS() fs.FS { return embedded }

// policy lets the page load and connect to nothing but its own origin, and never make script out of text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// asset is one file, ready to be sent.
type asset struct {
	contentType string
	etag        string
	plain       []byte
	gzipped     []byte // nil where it would not be smaller
}

// Handler serves the page at /, its parts beside it, the catalogue of event types at /catalog/, subscriptions at
// /subscriptions/, and the JavaScript client at /client/eventissuer.js. It answers GET and HEAD; anything it does not have is 404.
func Handler() http.Handler {
	assets := map[string]*asset{"/data/norway.json": newAsset("norway.json", timetable.JSON())}
	// Neither walking nor reading an embedded file system can fail.
	_ = fs.WalkDir(embedded, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := embedded.ReadFile(name)
		a := newAsset(name, body)
		assets["/"+name] = a // modules import the other pages' by the way that leads there in the source too
		assets["/"+strings.TrimPrefix(name, "page/")] = a
		return err
	})
	assets["/"], assets["/catalog"], assets["/subscriptions"] = assets["/index.html"], assets["/catalog/index.html"], assets["/subscriptions/index.html"]
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the page is only read", http.StatusMethodNotAllowed)
			return
		}
		a := assets[path.Clean("/"+r.URL.Path)]
		if a == nil {
			http.Error(w, "there is no such page", http.StatusNotFound)
			return
		}
		a.serve(w, r)
	})
}

func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
}

func newAsset(name string, body []byte) *asset {
	sum := sha256.Sum256(body)
	a := &asset{contentType: contentType(name), etag: hex.EncodeToString(sum[:12]), plain: body}
	var z bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&z, gzip.BestCompression) // the level is a valid one
	_, _ = zw.Write(body)                                  // a bytes.Buffer takes everything
	_ = zw.Close()
	if z.Len() < len(body)*9/10 {
		a.gzipped = z.Bytes()
	}
	return a
}

// contentType does not ask the machine's own tables where it knows the answer.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".json":
		return "application/json"
	case ".svg":
		return "image/svg+xml"
	case ".webmanifest":
		return "application/manifest+json"
	}
	return mime.TypeByExtension(path.Ext(name))
}

// serve answers 304 where the client has this version. A client asks each time (no-cache), so that a page and its parts
// are never of two versions.
func (a *asset) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	body, etag := a.plain, `"`+a.etag+`"`
	h.Set("Cache-Control", "no-cache")
	h.Set("Vary", "Accept-Encoding")
	if a.gzipped != nil && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		// An encoding of its own is a representation of its own (RFC 9110, section 8.8.3.3).
		body, etag = a.gzipped, `"`+a.etag+`-gzip"`
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("ETag", etag)
	if matches(r.Header.Get("If-None-Match"), a.etag) {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.contentType)
	h.Set("Content-Length", fmt.Sprint(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // a client that has gone away is no matter here
	}
}

func acceptsGzip(header string) bool {
	for coding := range strings.SplitSeq(header, ",") {
		name, weight, _ := strings.Cut(coding, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			weight = strings.ReplaceAll(weight, " ", "")
			return !strings.HasPrefix(weight, "q=0") || strings.ContainsAny(weight[3:], "123456789")
		}
	}
	return false
}

func matches(header, etag string) bool {
	for candidate := range strings.SplitSeq(header, ",") {
		candidate = strings.TrimPrefix(strings.TrimSpace(candidate), "W/")
		if candidate == "*" || strings.TrimSuffix(strings.Trim(candidate, `"`), "-gzip") == etag {
			return true
		}
	}
	return false
}
