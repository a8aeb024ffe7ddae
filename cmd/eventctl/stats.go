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

// sinkStats is where a subscription with a sink is.
type sinkStats struct {
	subscription
	State        string  `json:"state"`
	Reason       string  `json:"reason"`
	FailingSince string  `json:"failingSince"`
	Lag          int64   `json:"lag"`
	Undone       int64   `json:"undone"`
	InFlight     int64   `json:"inFlight"`
	Partial      bool    `json:"partial"`
	Partitions   []share `json:"partitions"`
}

// share is where it is in one partition.
type share struct {
	Stream    string `json:"stream"`
	Partition int    `json:"partition"`
	Position  int64  `json:"position"`
	End       int64  `json:"end"`
	Lag       int64  `json:"lag"`
	Undone    int64  `json:"undone"`
	InFlight  int64  `json:"inFlight"`
	Elsewhere bool   `json:"elsewhere"`
}

// print writes it for people.
func (s *sinkStats) print(c *console) error {
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s: %s, lag %d, %d undone, %d in flight\n", s.subscription, cmp.Or(s.State, "in an unknown state"), s.Lag, s.Undone, s.InFlight)
	if s.Reason != "" {
		fmt.Fprintf(&text, "%s\n", s.Reason)
	}
	if s.FailingSince != "" {
		fmt.Fprintf(&text, "nothing but failures since %s\n", s.FailingSince)
	}
	if s.Partial {
		text.WriteString("other replicas deliver some partitions (*): there it is at least as far as is told\n")
	}
	text.WriteByte('\n')
	table := tabwriter.NewWriter(&text, 0, 4, 2, ' ', 0)
	row(table, []string{"PARTITION", "POSITION", "END", "LAG", "UNDONE", "IN FLIGHT"})
	for _, p := range s.Partitions {
		of := fmt.Sprintf("%s/%d", p.Stream, p.Partition)
		if p.Elsewhere {
			of += "*"
		}
		row(table, []string{of, number(p.Position), number(p.End), number(p.Lag), number(p.Undone), number(p.InFlight)})
	}
	_ = table.Flush() // to memory
	_, err := c.out.Write(text.Bytes())
	return err
}

// printStats prints where a subscription is, for people or as it came.
func (c *console) printStats(body []byte, asJSON bool) error {
	if asJSON {
		return c.print(body)
	}
	var s struct {
		stats
		InFlight *int64 `json:"inFlight"` // of those with a sink alone
	}
	if err := json.Unmarshal(body, &s); err != nil {
		return fmt.Errorf("the answer tells nothing of a subscription: %w", err)
	}
	if s.InFlight != nil {
		var sent sinkStats
		if err := json.Unmarshal(body, &sent); err != nil {
			return fmt.Errorf("the answer tells nothing of a subscription: %w", err)
		}
		return sent.print(c)
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
