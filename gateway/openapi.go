package gateway

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"go.yaml.in/yaml/v3"
)

//go:embed openapi.yaml
var openapiSource []byte

// openapiDocument gives the document as JSON, with this program's version and address.
func openapiDocument(config Config) ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(openapiSource, &doc); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	if info, ok := doc["info"].(map[string]any); ok {
		info["version"] = config.Version
	}
	if config.PublicURL != nil {
		doc["servers"] = []any{map[string]any{"url": strings.TrimSuffix(config.PublicURL.String(), "/")}}
	}
	body, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write the OpenAPI document: %w", err)
	}
	return append(body, '\n'), nil
}

func (g *Gateway) openapiPage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write(g.openapi) // a client that has gone needs no answer
}
