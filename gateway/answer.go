package gateway

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/eventissuer/eventissuer/internal/base64url"
)

// writeJSON answers v. Nothing of the API may be cached without asking: definitions change.
func writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	writeJSONAs(w, r, status, "application/json", v)
}

func writeJSONAs(w http.ResponseWriter, r *http.Request, status int, mediaType string, v any) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		writeProblem(w, r, fmt.Errorf("encode the answer: %w", err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(buf.Len()))
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "no-cache")
	}
	w.WriteHeader(status)
	_, _ = w.Write(buf.Bytes()) // a client that has gone needs no answer
}

// The sizes of pages of lists.
const (
	defaultPage = 100
	maxPage     = 1000
)

// nextMark begins what a token of a list holds: other text that happens to be Base64 would be taken for a name, and the
// page be empty without a word.
const nextMark = "after:"

// list is a page of a list.
type list[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"` // give it back as next= for the page that follows; absent on the last one
}

// pageOf cuts the page that r asks for (limit=, next=) out of all, which is ordered by name.
func pageOf[T any](r *http.Request, all []T, name func(T) string) (list[T], error) {
	return pageAfter(r, func(after string) iter.Seq[T] {
		return func(yield func(T) bool) {
			for _, item := range all {
				if (after == "" || name(item) > after) && !yield(item) {
					return
				}
			}
		}
	}, name)
}

// pageAfter cuts the page that r asks for (limit=, next=) out of what following gives, which is ordered by name and
// begins after one. The token holds the last name of the page before, so that what is added or deleted meanwhile shifts
// nothing.
func pageAfter[T any](r *http.Request, following func(after string) iter.Seq[T], name func(T) string) (list[T], error) {
	after := ""
	limit, err := pageLimit(r)
	if err != nil {
		return list[T]{}, err
	}
	if token := r.URL.Query().Get("next"); token != "" {
		raw, err := base64url.Decode(token)
		last, ours := strings.CutPrefix(string(raw), nextMark)
		if err != nil || !ours || last == "" {
			return list[T]{}, newProblem(kindInvalidParameter, "next=%s is not a token of this list: give it back as it came, or leave it out", token)
		}
		after = last
	}
	page := list[T]{Items: []T{}}
	for item := range following(after) {
		if len(page.Items) == limit {
			page.Next = base64.RawURLEncoding.EncodeToString([]byte(nextMark + name(page.Items[limit-1])))
			break
		}
		page.Items = append(page.Items, item)
	}
	return page, nil
}

// pageLimit reads how many items a page may have.
func pageLimit(r *http.Request) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return defaultPage, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxPage {
		return 0, newProblem(kindInvalidParameter, "limit=%s: give a number from 1 to %d", text, maxPage)
	}
	return n, nil
}

// notModified answers 304 where the client's If-None-Match names the version.
func notModified(w http.ResponseWriter, r *http.Request, tag string) bool {
	for _, candidate := range strings.Split(r.Header.Get("If-None-Match"), ",") {
		if strings.TrimPrefix(strings.TrimSpace(candidate), "W/") == tag {
			w.Header().Set("ETag", tag)
			w.WriteHeader(http.StatusNotModified)
			return true
		}
	}
	return false
}

// link makes the absolute address of a path, whose segments are escaped.
func (g *Gateway) link(r *http.Request, segments ...string) string {
	var b strings.Builder
	b.WriteString(g.baseURL(r))
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}
