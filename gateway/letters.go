package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/deadletters"
	"github.com/eventissuer/eventissuer/push"
)

// deadLetter is an event that nobody took in all its attempts.
type deadLetter struct {
	ID          string          `json:"id"`
	Stream      string          `json:"stream"`
	Partition   int32           `json:"partition"`
	Offset      int64           `json:"offset"`
	Attempts    int             `json:"attempts"`
	Reason      string          `json:"reason"`
	At          time.Time       `json:"at"`
	Redelivered bool            `json:"redelivered,omitempty"` // it was delivered since
	Event       json.RawMessage `json:"event"`
}

// lettered finds the subscription of the address, of which dead letters are asked for. It answers by itself, and returns
// false, where there are none.
func (g *Gateway) lettered(w http.ResponseWriter, r *http.Request) (catalog.Subscription, bool) {
	s, ok := g.deps.Catalog.Subscription(pathVar(r, "id"))
	switch {
	case !ok:
		writeProblem(w, r, unknownSubscription(pathVar(r, "id")))
	case g.deps.Letters == nil:
		writeProblem(w, r, newProblem(kindNotReady, "this replica has no dead letters").retry(retrySoon))
		return s, false
	}
	return s, ok
}

func (g *Gateway) listDeadLetters(w http.ResponseWriter, r *http.Request) {
	s, ok := g.lettered(w, r)
	if !ok {
		return
	}
	limit, err := pageLimit(r)
	from := int64(0)
	if err == nil {
		from, err = letterToken(r.URL.Query().Get("next"))
	}
	var letters []deadletters.Letter
	next := int64(-1)
	if err == nil {
		letters, next, err = g.deps.Letters.Page(r.Context(), s.ID, from, limit)
	}
	if err != nil {
		g.refuseRead(w, r, err)
		return
	}
	since, err := g.deps.Letters.Redelivered(r.Context(), s.ID, idsOf(letters))
	if err != nil { // the letters themselves are on the log
		g.log.Warn("dead letters are listed without whether they were delivered since", "subscription", s.ID, "error", err)
		since = make([]bool, len(letters))
	}
	page := list[deadLetter]{Items: make([]deadLetter, 0, len(letters)), Next: letterMark(next)}
	for i, l := range letters {
		page.Items = append(page.Items, deadLetter{strconv.FormatInt(l.ID, 10), l.Stream, l.Partition, l.Offset, l.Attempts, l.Reason, l.At, since[i], l.Event})
	}
	writeJSON(w, r, http.StatusOK, page)
}

// letterToken reads a place among the letters; "" is the first.
func letterToken(token string) (int64, error) {
	if token == "" {
		return 0, nil
	}
	from, err := strconv.ParseInt(token, 10, 64)
	if err != nil || from < 0 {
		return 0, newProblem(kindInvalidParameter, "next= is not a token of this list: give it back as it came, or leave it out")
	}
	return from, nil
}

// letterMark is the inverse of letterToken; -1 is the end.
func letterMark(next int64) string {
	if next < 0 {
		return ""
	}
	return strconv.FormatInt(next, 10)
}

func idsOf(letters []deadletters.Letter) []int64 {
	ids := make([]int64, len(letters))
	for i := range letters {
		ids[i] = letters[i].ID
	}
	return ids
}

// redelivered is what became of dead letters.
type redelivered struct {
	Redelivered int            `json:"redelivered"`
	Failed      []failedLetter `json:"failed"`
	Next        string         `json:"next,omitempty"` // of all: where to go on
}

// failedLetter is one that was not delivered this time either.
type failedLetter struct {
	ID     string `json:"id"`
	Reason string `json:"reason"`
}

// redeliver answers POST …/dead-letters:redeliver: dead letters are sent again, now.
func (g *Gateway) redeliver(w http.ResponseWriter, r *http.Request) {
	s, ok := g.sunk(w, r)
	if !ok {
		return
	}
	if _, ok = g.lettered(w, r); !ok {
		return
	}
	var in struct {
		IDs  []string `json:"ids"`
		All  bool     `json:"all"`
		Next string   `json:"next"`
	}
	if !g.readDocument(w, r, &in) {
		return
	}
	ids, from, err := lettersAsked(in.IDs, in.All, in.Next)
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	deliveries, ok := g.beginResending(w, r, s)
	if !ok {
		return
	}
	defer g.resends.Release(1)
	answer := redelivered{Failed: []failedLetter{}}
	var letters []deadletters.Letter
	if in.All {
		letters, answer.Next, err = g.undelivered(r.Context(), s.ID, from)
	} else {
		letters, err = g.deps.Letters.Find(r.Context(), s.ID, ids)
		answer.Failed = append(answer.Failed, missing(ids, letters)...)
	}
	if err != nil {
		g.refuseRead(w, r, lettersProblem(err))
		return
	}
	all := make([]*sending, len(letters))
	for i, l := range letters {
		all[i] = g.sendingOf(l)
	}
	g.resend(r.Context(), deliveries, s, all)
	var done []int64
	for i, one := range all {
		if one.attempt != nil && one.attempt.Outcome == push.Delivered {
			done = append(done, letters[i].ID)
			continue
		}
		answer.Failed = append(answer.Failed, failedLetter{strconv.FormatInt(letters[i].ID, 10), one.reasonOf()})
	}
	answer.Redelivered = len(done)
	// Also where the client has gone: they are delivered.
	if err := g.deps.Letters.Redeliver(context.WithoutCancel(r.Context()), s.ID, done); err != nil {
		g.log.Warn("dead letters that were delivered are not marked as such", "subscription", s.ID, "letters", len(done), "error", err)
	}
	writeJSON(w, r, http.StatusOK, answer)
}

// lettersAsked reads which letters are to be sent again.
func lettersAsked(texts []string, all bool, next string) (ids []int64, from int64, err error) {
	if (len(texts) > 0) == all || len(texts) > resentMost || next != "" && !all {
		return nil, 0, newProblem(kindInvalidBody, `give either {"ids":["…"]}, 1 to %d of them, or {"all":true}, and with that the "next" of the answer before`, resentMost)
	}
	for i, text := range texts {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil || id < 0 {
			return nil, 0, newProblem(kindInvalidBody, "%q is no id of a dead letter", text).
				at(fieldError{Pointer: "/ids/" + strconv.Itoa(i), Message: "must be the id of a dead letter, as GET …/dead-letters has it"})
		}
		ids = append(ids, id)
	}
	if from, err = letterToken(next); err != nil {
		err = newProblem(kindInvalidBody, "next is not one that an answer had: give it back as it came, or leave it out").
			at(fieldError{Pointer: "/next", Message: "must be that of the answer before"})
	}
	return ids, from, err
}

// undelivered finds the next letters that were not delivered since.
func (g *Gateway) undelivered(ctx context.Context, id string, from int64) ([]deadletters.Letter, string, error) {
	letters, next, err := g.deps.Letters.Page(ctx, id, from, resentMost)
	if err != nil {
		return nil, "", err
	}
	since, err := g.deps.Letters.Redelivered(ctx, id, idsOf(letters))
	if err != nil { // all would be sent once more
		return nil, "", err
	}
	left := letters[:0]
	for i := range letters {
		if !since[i] {
			left = append(left, letters[i])
		}
	}
	return left, letterMark(next), nil
}

// missing tells which letters were not found.
func missing(ids []int64, found []deadletters.Letter) (failed []failedLetter) {
	there := map[int64]bool{}
	for i := range found {
		there[found[i].ID] = true
	}
	for _, id := range ids {
		if !there[id] {
			there[id] = true
			failed = append(failed, failedLetter{strconv.FormatInt(id, 10), "there is no such dead letter of the subscription, or it is no longer kept"})
		}
	}
	return failed
}

// sendingOf is what is to be sent of a letter: the event in the log, or else what the letter has of it.
func (g *Gateway) sendingOf(l deadletters.Letter) *sending {
	one := &sending{at: push.Place{Partition: l.Partition, Offset: l.Offset}}
	if one.at.Stream, _ = g.fanned(l.Stream); one.at.Stream.Name == "" {
		one.at.Stream.Name = l.Stream
	}
	if len(l.Event) > 0 && string(l.Event) != "null" {
		one.at.Copy = l.Event
		var is struct {
			ID string `json:"id"`
		}
		_ = json.Unmarshal(l.Event, &is) // where it is no event, sending it tells
		one.at.Event = is.ID
	}
	return one
}

func lettersProblem(err error) error {
	if errors.Is(err, deadletters.ErrUnavailable) {
		return newProblem(kindAttemptsAway, "%s: try again, or name those to be sent", deadletters.ErrUnavailable).retry(retrySoon).because(err)
	}
	return err
}
