package schema

import "strconv"

// place is where in the data evaluation is, kept only for reports.
type place struct {
	parent *place
	token  string
	known  bool // the schema has the name, so it tells nothing of the data
}

func (p *place) pointer(redacted bool) string {
	if p == nil {
		return ""
	}
	token := p.token
	if redacted && !p.known {
		token = "*"
	}
	return p.parent.pointer(redacted) + "/" + escapePointer(token)
}

func (p *place) depth() int {
	if p == nil {
		return 0
	}
	return p.parent.depth() + 1
}

func (out *report) item(at *place, i int) *place {
	if out == nil {
		return nil
	}
	return &place{parent: at, token: strconv.Itoa(i), known: true}
}

func (out *report) member(at *place, name string, known bool) *place {
	if out == nil {
		return nil
	}
	return &place{parent: at, token: name, known: known}
}
