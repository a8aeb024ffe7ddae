package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"
)

// stats is where a subscription is.
type stats struct {
	subscription
	State       string      `json:"state"`
	Lag         int64       `json:"lag"`
	LagSeconds  float64     `json:"lagSeconds"`
	Uncommitted int64       `json:"uncommitted"`
	Redelivered int64       `json:"redeliveries"`
	DeadLetters int64       `json:"deadLetters"`
	Partitions  []partition `json:"partitions"`
	Sessions    []session   `json:"sessions"`
}

// partition is where a subscription is in one of them.
type partition struct {
	Stream      string  `json:"stream"`
	Partition   int     `json:"partition"`
	Session     string  `json:"session"`
	Position    int64   `json:"position"`
	End         int64   `json:"end"`
	Lag         int64   `json:"lag"`
	LagSeconds  float64 `json:"lagSeconds"`
	Uncommitted int64   `json:"uncommitted"`
	Redelivered int64   `json:"redeliveries"`
}

// session is one of a subscription's readers.
type session struct {
	ID          string   `json:"id"`
	Replica     string   `json:"replica"`
	Transport   string   `json:"transport"`
	Address     string   `json:"address"`
	Since       string   `json:"since"`
	Uncommitted int64    `json:"uncommitted"`
	Groups      []string `json:"groups"`
	Waiting     string   `json:"waiting"`
}

// printStats prints where a subscription is, for people or as it came.
func (c *console) printStats(body []byte, asJSON bool) error {
	if asJSON {
		return c.print(body)
	}
	var s stats
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("the answer tells nothing of a subscription: %w", err)
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s: %s, lag %d (%s s), %d uncommitted, %d redeliveries, %d dead letters\n\n",
		s.subscription, cmp.Or(s.State, "in an unknown state"), s.Lag, seconds(s.LagSeconds), s.Uncommitted, s.Redelivered, s.DeadLetters)
	table := tabwriter.NewWriter(&text, 0, 4, 2, ' ', 0)
	row(table, []string{"PARTITION", "POSITION", "END", "LAG", "LAG SECONDS", "UNCOMMITTED", "REDELIVERIES", "SESSION"})
	for _, p := range s.Partitions {
		row(table, []string{
			fmt.Sprintf("%s/%d", p.Stream, p.Partition), number(p.Position), number(p.End), number(p.Lag), seconds(p.LagSeconds),
			number(p.Uncommitted), number(p.Redelivered), cell(p.Session),
		})
	}
	_ = table.Flush() // to memory
	text.WriteByte('\n')
	row(table, []string{"SESSION", "REPLICA", "TRANSPORT", "ADDRESS", "SINCE", "UNCOMMITTED", "GROUPS", "WAITING"})
	for _, r := range s.Sessions {
		row(table, []string{
			r.ID, cell(r.Replica), cell(r.Transport), cell(r.Address), cell(r.Since), number(r.Uncommitted), cell(strings.Join(r.Groups, ",")), cell(r.Waiting),
		})
	}
	_ = table.Flush()
	_, err := c.out.Write(text.Bytes())
	return err
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

func seconds(s float64) string { return strconv.FormatFloat(s, 'f', 1, 64) }
