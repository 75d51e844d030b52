package journal_test

import (
	"path/filepath"
	"testing"

	"firstlight/provision/journal"
	"firstlight/provision/journal/journaltest"
)

type store struct {
	dir       string
	endpoints []string
}

func (s store) Open(t *testing.T) journaltest.Journal {
	t.Helper()
	j, err := journal.Open(t.Context(), journal.Options{Dir: s.dir, Endpoints: s.endpoints, Cluster: "lab"})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestConformance(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journaltest.Store { return store{dir: t.TempDir()} })
}

// TestConformanceEndpoints reaches a member as it would an external cluster.
func TestConformanceEndpoints(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journaltest.Store {
		dir := t.TempDir()
		server, err := journal.Open(t.Context(), journal.Options{Dir: dir, Cluster: "server"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
		return store{endpoints: []string{"unix://" + filepath.Join(dir, "client.sock")}}
	})
}
