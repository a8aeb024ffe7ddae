package main

import "testing"

func TestSessionsAndConnectionsFitTheFilesThatMayBeOpen(t *testing.T) {
	for _, files := range []int{64, 256, 1024, 4096, 20_000, 1_048_576} {
		connections, sessions := connectionLimits(files)
		if sessions < 1 || sessions > connections || connections > max(files, 1) {
			t.Errorf("of %d files %d are connections and %d sessions", files, connections, sessions)
		}
		if files >= 1024 && (files-connections < ownFilesLeast || connections-sessions < askingLeast) {
			t.Errorf("of %d files %d are connections and %d sessions: too few are left for the log, or for requests", files, connections, sessions)
		}
		if files >= 1024 && sessions < files*8/10 {
			t.Errorf("of %d files only %d are sessions", files, sessions)
		}
	}
	if limit := fileLimit(); limit < 64 {
		t.Errorf("the process may have %d files open", limit)
	}
}
