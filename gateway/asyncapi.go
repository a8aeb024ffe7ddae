package gateway

import (
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
	for _, stream := range g.deps.Catalog.Streams() {
		types := g.deps.Catalog.EventTypesOf(stream.Name)
		channels[stream.Name] = channel(stream, types)
		reference := document{"$ref": "#/channels/" + pointerToken(stream.Name)}
		operations["read."+stream.Name] = document{
			"action": "send", "channel": reference,
			"summary": "Read with GET /v1/streams/" + stream.Name + "/events.",
		}
		operations["publish."+stream.Name] = document{
			"action": "receive", "channel": reference,
			"summary": "Publish with POST /v1/events; the event's type decides the stream.",
		}
		for _, t := range types {
			messages[componentKey(t.Type)] = message(t)
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
		"components":         document{"messages": messages, "schemas": document{"CloudEvent": cloudEventSchema()}},
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
	}
	if stream.Description != "" {
		c["description"] = stream.Description
	}
	return c
}

func message(t catalog.EventType) document {
	typ := document{"type": "string", "const": t.Type}
	if prefix, ok := strings.CutSuffix(t.Type, "*"); ok {
		typ = document{"type": "string", "pattern": "^" + strings.ReplaceAll(prefix, ".", `\.`)}
	}
	m := document{
		"name":        t.Type,
		"contentType": "application/cloudevents+json",
		"payload": document{
			"allOf": []any{
				document{"$ref": "#/components/schemas/CloudEvent"},
				document{"properties": document{"type": typ}},
			},
		},
	}
	if t.Description != "" {
		m["summary"] = t.Description
	}
	return m
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
