package gateway

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/eventissuer/eventissuer/internal/catalog"
)

// document is a JSON object that is built here.
type document = map[string]any

// asyncapiPage describes the streams and event types as AsyncAPI 3.0: each stream is a channel, each event type a
// message, and both can be followed over HTTP.
func (g *Gateway) asyncapiPage(w http.ResponseWriter, r *http.Request) {
	base, err := url.Parse(g.baseURL(r))
	if err != nil {
		writeProblem(w, r, err)
		return
	}
	server := document{"host": base.Host, "protocol": base.Scheme, "description": "Events in, and out over SSE, WebSocket, NDJSON and long-poll."}
	if base.Path != "" {
		server["pathname"] = base.Path
	}
	channels, operations, messages := document{}, document{}, document{}
	schemas := document{"CloudEvent": cloudEventSchema()}
	for _, stream := range g.deps.Catalog.Streams() {
		types := g.deps.Catalog.EventTypesOf(stream.Name)
		channels[stream.Name] = channel(stream, types)
		reference := document{"$ref": "#/channels/" + pointerToken(stream.Name)}
		operations["read."+stream.Name] = document{
			"action": "send", "channel": reference,
			"summary":  "Read with GET /v1/streams/" + stream.Name + "/events.",
			"bindings": document{"http": document{"method": "GET", "query": readParameters(stream), "bindingVersion": "0.3.0"}},
		}
		operations["publish."+stream.Name] = document{
			"action": "receive", "channel": reference,
			"summary":  "Publish with POST /v1/events; the event's type decides the stream.",
			"bindings": document{"http": document{"method": "POST", "bindingVersion": "0.3.0"}},
		}
		for _, t := range types {
			messages[componentKey(t.Type)] = g.message(r, t, schemas)
		}
	}
	writeJSON(w, r, http.StatusOK, document{
		"asyncapi": "3.0.0",
		"info": document{
			"title": "Events of this server", "version": g.config.Version,
			"description": "Streams and event types as they are registered now. /openapi.json describes how they are published and read.",
		},
		"defaultContentType": "application/cloudevents+json",
		"servers":            document{"gateway": server},
		"channels":           channels,
		"operations":         operations,
		"components":         document{"messages": messages, "schemas": schemas},
	})
}

func channel(stream catalog.Stream, types []catalog.EventType) document {
	messages := document{}
	for _, t := range types {
		key := componentKey(t.Type)
		messages[key] = document{"$ref": "#/components/messages/" + pointerToken(key)}
	}
	c := document{
		"address":  "/v1/streams/" + url.PathEscape(stream.Name) + "/events",
		"messages": messages,
		"servers":  []any{document{"$ref": "#/servers/gateway"}},
		"bindings": document{"ws": document{"method": "GET", "query": readParameters(stream), "bindingVersion": "0.1.0"}},
	}
	if stream.Description != "" {
		c["description"] = stream.Description
	}
	return c
}

// readParameters are those of a read of the stream that a client of any transport uses; the OpenAPI document has them all.
func readParameters(stream catalog.Stream) document {
	text := func(description string) document { return document{"type": "string", "description": description} }
	properties := document{
		"after":    text("A cursor: read what follows it."),
		"from":     text("Where to begin without a cursor: oldest, latest, or a time."),
		"type":     text("Only events of this type."),
		"subject":  text("Only events with this subject."),
		"filter":   text("A CloudEvents SQL expression."),
		"conflate": text("Each key's latest event once in this time, such as 2s."),
	}
	if stream.State != nil {
		properties["from"] = text("Where to begin without a cursor: snapshot (the latest event of each key, then what follows), oldest, latest, or a time.")
		properties["overflow"] = text("snapshot: a reader that fell behind is given a snapshot in place of what it missed.")
	}
	return document{"type": "object", "properties": properties}
}

// message describes an event type. Its schema goes among schemas.
func (g *Gateway) message(r *http.Request, t catalog.EventType, schemas document) document {
	typ := document{"type": "string", "const": t.Type}
	if prefix, ok := strings.CutSuffix(t.Type, "*"); ok {
		typ = document{"type": "string", "pattern": "^" + strings.ReplaceAll(prefix, ".", `\.`)}
	}
	properties := document{"type": typ}
	m := document{"name": t.Type, "contentType": "application/cloudevents+json"}
	if t.Description != "" {
		m["summary"] = t.Description
	}
	description := t.Documentation
	if t.Deprecation != nil {
		description = strings.TrimSpace(deprecated(*t.Deprecation) + "\n\n" + description)
	}
	if description != "" {
		m["description"] = description
	}
	if v, ok := g.deps.Catalog.LatestSchema(t.Type); ok {
		key := componentKey(t.Type) + ".data"
		schemas[key] = dataSchema(v, "#/components/schemas/"+pointerToken(key), g.schemaURL(r, t.Type, v.Version))
		properties["data"] = document{"$ref": "#/components/schemas/" + pointerToken(key)}
		properties["dataschema"] = document{"type": "string", "format": "uri", "examples": []string{g.schemaURL(r, t.Type, v.Version)}}
	}
	m["payload"] = document{"allOf": []any{
		document{"$ref": "#/components/schemas/CloudEvent"},
		document{"type": "object", "properties": properties},
	}}
	var examples []any
	for i, data := range t.Examples {
		examples = append(examples, document{"name": fmt.Sprintf("example%d", i+1), "payload": document{
			"specversion": "1.0", "id": fmt.Sprintf("example-%d", i+1), "source": exampleSource(t), "type": t.Type,
			"datacontenttype": "application/json", "data": data,
		}})
	}
	if examples != nil {
		m["examples"] = examples
	}
	m["tags"] = []any{document{"name": string(t.Audience)}, document{"name": "owner:" + t.Owner}}
	return m
}

func deprecated(d catalog.Deprecation) string {
	text := "**Deprecated"
	if d.Date != "" {
		text += ", until " + d.Date
	}
	if d.Successor != "" {
		text += "; followed by " + d.Successor
	}
	return strings.TrimSpace(text + ".** " + d.Note)
}

func exampleSource(t catalog.EventType) string {
	if len(t.Sources) > 0 {
		return t.Sources[0]
	}
	return "/example"
}

// dataSchema puts a schema into the document, its references to itself made to lead there. One that leads elsewhere or
// by other means than pointers is only referred to: in here its references would mean something else.
func dataSchema(v catalog.SchemaVersion, at, address string) any {
	elsewhere := document{
		"description":  "The schema has references that only work at its own address.",
		"externalDocs": document{"url": address},
	}
	var root any
	if json.Unmarshal([]byte(v.Text), &root) != nil || !moveReferences(root, at) {
		return elsewhere
	}
	object, ok := root.(document)
	if !ok { // AsyncAPI has no schemas that are true or false
		if root == false {
			return document{"not": document{}}
		}
		return document{}
	}
	delete(object, "$schema") // AsyncAPI has a dialect of its own, which takes both drafts
	object["externalDocs"] = document{"url": address}
	return object
}

// moveReferences prepends at to all references by pointer. It reports false where there is anything else that resolves.
func moveReferences(value any, at string) bool {
	switch v := value.(type) {
	case []any:
		for _, inner := range v {
			if !moveReferences(inner, at) {
				return false
			}
		}
	case document:
		for key, inner := range v {
			switch key {
			case "$id", "$anchor", "$dynamicRef", "$dynamicAnchor":
				return false
			case "$ref":
				ref, _ := inner.(string)
				if ref != "#" && !strings.HasPrefix(ref, "#/") {
					return false
				}
				v[key] = at + ref[1:]
				continue
			case "const", "enum", "default", "examples":
				continue // values, not schemas
			case "properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies":
				named, _ := inner.(document) // names of the publisher's own
				for name, s := range named {
					if name == "$ref" || !moveReferences(s, at) { // which readers of AsyncAPI take for a reference
						return false
					}
				}
				continue
			}
			if !moveReferences(inner, at) {
				return false
			}
		}
	}
	return true
}

// componentKey makes a type the key of a component, which AsyncAPI restricts to letters, digits and . - _ .
func componentKey(name string) string {
	var b strings.Builder
	for _, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.', c == '-':
			b.WriteRune(c)
		case c == '_':
			b.WriteString("__")
		default: // told apart from each other, since two types must not share a key
			fmt.Fprintf(&b, "_%x", c)
		}
	}
	return b.String()
}

// pointerToken escapes a name for a JSON Pointer in a URI fragment.
func pointerToken(name string) string {
	return url.PathEscape(strings.NewReplacer("~", "~0", "/", "~1").Replace(name))
}

func cloudEventSchema() document {
	text := document{"type": "string", "minLength": 1}
	return document{
		"type": "object", "description": "CloudEvents 1.0.2 in the JSON format.",
		"required": []string{"specversion", "id", "source", "type"},
		"properties": document{
			"specversion": document{"type": "string", "const": "1.0"},
			"id":          text, "source": text, "type": text,
			"subject":         document{"type": "string"},
			"time":            document{"type": "string", "format": "date-time"},
			"datacontenttype": document{"type": "string"},
			"dataschema":      document{"type": "string"},
			"data":            document{},
			"data_base64":     document{"type": "string"},
		},
	}
}
