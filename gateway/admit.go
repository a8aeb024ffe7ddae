package gateway

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/eventissuer/eventissuer/internal/catalog"
	"github.com/eventissuer/eventissuer/internal/event"
	"github.com/eventissuer/eventissuer/internal/schema"
)

// maxItemErrors bounds what is told of one event.
const maxItemErrors = 20

// admission is one request's way of checking events against what is registered.
type admission struct {
	g    *Gateway
	base string // the server's own address, for dataschema
	own  string // the address that the client used, where that is another
}

func (g *Gateway) admission(r *http.Request) *admission {
	a := &admission{g: g, base: g.baseURL(r), own: "http://" + r.Host}
	if r.TLS != nil {
		a.own = "https://" + r.Host
	}
	return a
}

// admitted is an event that may be written, and where.
type admitted struct {
	event     event.Event // as it is stored: with what was promoted, and its dataschema
	eventType catalog.EventType
	stream    catalog.Stream
}

// admit holds an event to its type's registration. mistakes are the publisher's; an error is ours, and may pass.
func (a *admission) admit(e event.Event) (ok admitted, mistakes []fieldError, err error) {
	ok.event = e
	var problem *fieldError
	if ok.eventType, ok.stream, problem = a.g.destination(e.Type()); problem != nil {
		return ok, []fieldError{*problem}, nil
	}
	t := ok.eventType
	if problem := checkSource(e.Source(), t.Sources); problem != nil {
		mistakes = append(mistakes, *problem)
	}
	bad, err := a.checkData(&ok)
	if err != nil {
		return ok, nil, err
	}
	mistakes = append(mistakes, bad...)
	if len(t.Promote) > 0 {
		if bad, err = a.promote(&ok); err != nil {
			return ok, nil, err
		}
		mistakes = append(mistakes, bad...)
	}
	if problem := checkKey(&ok); problem != nil {
		mistakes = append(mistakes, *problem)
	}
	if len(t.Attributes) > 0 && len(mistakes) == 0 { // of an event that is wrong already it is not known what it will have
		if bad, err = a.checkAttributes(&ok); err != nil {
			return ok, nil, err
		}
		mistakes = append(mistakes, bad...)
	}
	if len(mistakes) > maxItemErrors {
		mistakes = mistakes[:maxItemErrors]
	}
	return ok, mistakes, nil
}

// checkKey refuses what a compacted topic would not take, with all that is sent beside it.
func checkKey(ok *admitted) *fieldError {
	if !ok.stream.Compaction || len(eventKey(&ok.event, ok.eventType.KeyAttribute)) > 0 {
		return nil
	}
	return &fieldError{
		Pointer: "/" + ok.eventType.KeyAttribute, Keyword: "key", Message: "the stream keeps the latest event of each key, and the event has no key",
		Expected: "the attribute " + ok.eventType.KeyAttribute + ", or partitionkey",
	}
}

func checkSource(source string, allowed []string) *fieldError {
	if len(allowed) == 0 {
		return nil
	}
	for _, prefix := range allowed {
		if strings.HasPrefix(source, prefix) {
			return nil
		}
	}
	return &fieldError{
		Pointer: "/source", Keyword: "sources", Message: "events of this type do not come from this source",
		Expected: "a source that begins with " + strings.Join(allowed, " or "),
	}
}

// checkData validates data by the version that dataschema names, or the latest, and gives the event that version's
// address. Of a type without a schema, dataschema is the publisher's own affair.
func (a *admission) checkData(ok *admitted) ([]fieldError, error) {
	t, e := ok.eventType, &ok.event
	s, version, err := a.g.deps.Catalog.Validator(t)
	if err != nil {
		return nil, err
	}
	if s == nil {
		return nil, nil
	}
	if named := e.DataSchema(); named != "" {
		s, version, err = a.named(t, named, s, version)
		if err != nil {
			return nil, err
		}
		if s == nil {
			return []fieldError{{
				Pointer: "/dataschema", Keyword: "dataschema", Message: "it names no version of this event type's schema",
				Expected: "none, or " + a.base + catalog.SchemaPath(t.Type, t.LatestVersion),
			}}, nil
		}
	}
	data, problem := jsonData(e)
	if problem != nil {
		return []fieldError{*problem}, nil
	}
	if bad := fieldErrors("/data", s.Validate(data, detail(t))); len(bad) > 0 {
		return bad, nil
	}
	address := a.base + catalog.SchemaPath(t.Type, version)
	if e.DataSchema() != address {
		ok.event, err = e.With("dataschema", address)
	}
	return nil, err
}

// named finds the version that a dataschema names; nil where it names none of the type.
func (a *admission) named(t catalog.EventType, dataschema string, latest *schema.Schema, latestVersion int) (*schema.Schema, int, error) {
	path, ours := strings.CutPrefix(dataschema, a.base)
	if !ours {
		if path, ours = strings.CutPrefix(dataschema, a.own); !ours {
			return nil, 0, nil
		}
	}
	typ, version, isPath := catalog.ParseSchemaPath(path)
	if !isPath || typ != t.Type || version != 0 && !t.Has(version) {
		return nil, 0, nil
	}
	if version == 0 || version == latestVersion {
		return latest, latestVersion, nil
	}
	v, found := a.g.deps.Catalog.Schema(typ, version)
	if !found {
		return nil, 0, nil
	}
	s, err := a.g.deps.Catalog.Compiled(v)
	return s, version, err
}

// jsonData gives the JSON text that a schema is about.
func jsonData(e *event.Event) ([]byte, *fieldError) {
	if ct := e.DataContentType(); ct != "" && !event.IsJSON(ct) {
		return nil, &fieldError{
			Pointer: "/datacontenttype", Keyword: "datacontenttype", Message: "the event type has a JSON Schema, so its data is JSON",
			Expected: "application/json, or a media type that ends in +json",
		}
	}
	if text, ok := e.DataBase64(); ok {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, &fieldError{Pointer: "/data_base64", Message: "it is no Base64", Expected: "JSON, as data"}
		}
		return raw, nil
	}
	if data := e.Data(); data != nil {
		return data, nil
	}
	return nil, &fieldError{Pointer: "/data", Keyword: "required", Message: "the event has no data", Expected: "data that is valid under the event type's schema"}
}

// detail is how much of an event its mistakes may tell.
func detail(t catalog.EventType) schema.Detail {
	if t.Personal {
		return schema.Redacted
	}
	return schema.Verbatim
}

func fieldErrors(at string, violations []schema.Violation) []fieldError {
	var errs []fieldError
	for _, v := range violations {
		errs = append(errs, fieldError{Pointer: at + v.Pointer, Keyword: v.Keyword, Message: v.Message})
	}
	return errs
}

func (a *admission) promote(ok *admitted) ([]fieldError, error) {
	promotion, err := ok.eventType.Promotion()
	if err != nil {
		return nil, err
	}
	data := ok.event.Data()
	if _, encoded := ok.event.DataBase64(); encoded && event.IsJSON(ok.event.DataContentType()) {
		data, _ = jsonData(&ok.event) // what is no JSON has no values to take
		if !json.Valid(data) {
			data = nil
		}
	}
	var problems []event.Problem
	ok.event, problems = promotion.ApplyFrom(ok.event, data)
	var bad []fieldError
	for _, p := range problems {
		bad = append(bad, fieldError{Pointer: p.Pointer, Keyword: "promote", Message: p.Message, Expected: p.Expected})
	}
	return bad, nil
}

func (a *admission) checkAttributes(ok *admitted) ([]fieldError, error) {
	s, err := ok.eventType.AttributeSchema()
	if err != nil {
		return nil, err
	}
	required, kinds := ok.eventType.AttributeHints()
	attributes := map[string]any{}
	for name, value := range ok.event.Attributes() {
		switch kind := value.Kind(); {
		case kind == event.Integer:
			attributes[name] = int(value.Int())
		case kind == event.Boolean:
			attributes[name] = value.Bool()
		default:
			attributes[name] = meant(value.String(), kinds[name])
		}
	}
	var bad []fieldError
	for _, name := range required {
		if attributes[name] == nil {
			bad = append(bad, fieldError{Pointer: "/" + name, Keyword: "required", Message: "the event type requires the attribute"})
		}
	}
	for _, v := range s.ValidateValue(attributes, detail(ok.eventType)) {
		if v.Keyword != "required" || v.Pointer != "" { // which are told already, each at its place
			bad = append(bad, fieldError{Pointer: v.Pointer, Keyword: v.Keyword, Message: v.Message})
		}
	}
	return bad, nil
}

// meant gives a text the type that the schema asks of it. In the binary mode all values come as texts, in the canonical
// form of what they are (CloudEvents HTTP binding, 3.1.3.2).
func meant(text, kind string) any {
	switch kind {
	case "integer", "number":
		if n, err := strconv.ParseInt(text, 10, 32); err == nil && strconv.FormatInt(n, 10) == text {
			return int(n)
		}
	case "boolean":
		switch text {
		case "true":
			return true
		case "false":
			return false
		}
	}
	return text
}
