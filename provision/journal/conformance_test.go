package journal_test

import (
	"testing"

	"firstlight/provision/journal"
	"firstlight/provision/journal/journaltest"
)

type store struct{ dir string }

func (s store) Open(t *testing.T) journaltest.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Options{Dir: s.dir, Cluster: "lab"})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestConformance(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journaltest.Store { return store{t.TempDir()} })
}
