package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// printer writes events as they come, each at once.
type printer struct {
	out      io.Writer
	pretty   bool
	envelope bool
	color    bool
	buffer   bytes.Buffer
}

func (p *printer) event(cursor string, event []byte) error {
	p.buffer.Reset()
	switch {
	case p.pretty:
		p.forPeople(cursor, event)
	case p.envelope && cursor == "": // of a snapshot that has not ended yet
		fmt.Fprintf(&p.buffer, `{"event":%s}`+"\n", event)
	case p.envelope:
		quoted, err := json.Marshal(cursor)
		if err != nil {
			return err
		}
		fmt.Fprintf(&p.buffer, `{"cursor":%s,"event":%s}`+"\n", quoted, event)
	default:
		p.buffer.Write(event)
		p.buffer.WriteByte('\n')
	}
	_, err := p.out.Write(p.buffer.Bytes())
	return err
}

// told writes what else a program that keeps a picture of what is true now has to know, where it can be told apart from
// events.
func (p *printer) told(name string, data []byte) error {
	if p.pretty || !p.envelope {
		return nil
	}
	switch name {
	case "snapshot", "live", "removed":
		_, err := fmt.Fprintf(p.out, `{"%s":%s}`+"\n", name, data)
		return err
	}
	return nil
}

// delivery writes an event of a subscription. Its envelope is the line that it came in.
func (p *printer) delivery(d delivery) error {
	if p.pretty || !p.envelope {
		return p.event(d.Cursor, d.Event)
	}
	p.buffer.Reset()
	p.buffer.Write(d.line)
	p.buffer.WriteByte('\n')
	_, err := p.out.Write(p.buffer.Bytes())
	return err
}

// forPeople writes a heading of what matters in an event, and its data below.
func (p *printer) forPeople(cursor string, event []byte) {
	var e struct {
		ID, Source, Type, Subject, Time string
		Data                            json.RawMessage
		DataBase64                      string `json:"data_base64"`
	}
	if json.Unmarshal(event, &e) != nil {
		p.buffer.Write(event)
		p.buffer.WriteByte('\n')
		return
	}
	bold, dim, plain := "", "", ""
	if p.color {
		bold, dim, plain = "\x1b[1m", "\x1b[2m", "\x1b[0m"
	}
	heading := bold + e.Type + plain
	if e.Time != "" {
		heading = e.Time + "  " + heading
	}
	if e.Subject != "" {
		heading += "  " + e.Subject
	}
	fmt.Fprintf(&p.buffer, "%s  %s%s %s%s\n", heading, dim, e.Source, e.ID, plain)
	if p.envelope {
		fmt.Fprintf(&p.buffer, "  %scursor %s%s\n", dim, cursor, plain)
	}
	switch {
	case len(e.Data) > 0:
		p.buffer.WriteString("  ")
		if json.Indent(&p.buffer, e.Data, "  ", "  ") != nil {
			p.buffer.Write(e.Data)
		}
		p.buffer.WriteByte('\n')
	case e.DataBase64 != "":
		fmt.Fprintf(&p.buffer, "  %s(binary data, %d characters of base64)%s\n", dim, len(e.DataBase64), plain)
	}
}
