package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
)

// alarms are what a replica logs when it breaks.
var alarms = regexp.MustCompile(`(?i)panic|fatal error|data race`)

// alive notes which replicas do not answer after the repair, and reports whether all do.
func (r *run) alive(ctx context.Context) (all bool) {
	all = true
	for _, v := range r.cluster.replicas {
		var last error
		if !r.wait(ctx, readPeriod, func() bool {
			last = r.cluster.ready(ctx, v)
			return last == nil
		}) {
			all = false
			r.journal.Note(Entry{What: WhatBroke, Who: v.name, Text: cut(fmt.Sprintf("it does not answer %s after the repair: %v", readPeriod, last))})
		}
	}
	return all
}

// alarmed notes what a replica logged when it broke.
func (r *run) alarmed(v *replica) error {
	f, err := os.Open(v.log)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for found := 0; found < eachPromise && lines.Scan(); {
		if alarms.Match(lines.Bytes()) {
			found++
			r.journal.Note(Entry{What: WhatBroke, Who: v.name, Text: cut(lines.Text())})
		}
	}
	return errors.Join(lines.Err(), f.Close())
}
