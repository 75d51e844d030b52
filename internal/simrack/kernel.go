package simrack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"firstlight/provision/acceptance"
	"firstlight/provision/agent"
	"firstlight/provision/agent/api"
	"firstlight/provision/burnin"
)

// KernelRelease is what a simulated kernel says of itself: the first line of
// its file. A file that does not begin with text has none.
func KernelRelease(kernel []byte) string {
	line, _, _ := strings.Cut(string(kernel[:min(len(kernel), 128)]), "\n")
	line = strings.TrimSpace(line)
	if line == "" || strings.ContainsFunc(line, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return "0-simulated"
	}
	return line
}

// kernel is a boot from here on: the agent runs over the machine's files. It
// returns true when the node is to boot again.
func (m *machine) kernel(ctx context.Context, l *loaded) (again bool) {
	m.rack.started(m.node.Name, func(s *Start) {
		if s.Running.IsZero() {
			s.Running = time.Now()
		}
	})
	args, err := agent.ParseArgs(l.args)
	if err == nil {
		err = m.writeBoot(KernelRelease(l.kernel))
	}
	if err != nil {
		m.log.Error("kernel stops", "err", err)
		<-ctx.Done()
		return false
	}
	client := httpFrom(l.address)
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ordered := make(chan string, 1)
	a := &agent.Agent{Args: args, Token: l.token, Address: l.address.String(), Version: "simulated", FS: m.fs,
		HTTP: client, Log: m.log, Backoff: m.rack.pause(), Reboot: func(kind string) {
			select {
			case ordered <- kind:
			default:
			}
			cancel()
		}, Workers: workers, ReadGPUs: m.readGPUs}
	if f, ok := m.rack.fault(m.node.Name, BadGPU); ok {
		a.Fault = f.GPU
	}
	if args.Kind == api.BootImage && args.Root != "" {
		switch digest, err := m.fetchRoot(ctx, client, args); {
		case ctx.Err() != nil:
			return false
		case err != nil:
			a.Reports = []api.Report{{Kind: api.ReportBootFailed, Message: err.Error()}}
		case digest != args.Root:
			a.Reports = []api.Report{{Kind: api.ReportDigestMismatch,
				Message: fmt.Sprintf("root file system digest is %s, manifest says %s", digest, args.Root)}}
		default:
			a.RootDigest = digest
		}
	}
	if err := a.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		m.log.Error("agent ended", "err", err)
	}
	select {
	case kind := <-ordered:
		if kind == api.JobReboot {
			m.rack.count(m.node.Name, func(c *Counters) { c.AgentReboots++ })
			return true
		}
	default:
	}
	return false
}

// workers are those of a simulated node's burn-in: in this process, for there may
// be thousands.
func workers(engine acceptance.Engine) (burnin.Starter, error) {
	if engine != acceptance.EngineReference {
		return nil, fmt.Errorf("a simulated node has no GPU for the %s engine", engine)
	}
	return burnin.InProcess, nil
}

// readGPUs are healthy GPUs of the declared class, at the addresses that they have.
func (m *machine) readGPUs(context.Context) burnin.Health {
	var pcis []string
	for _, g := range agent.Inspect(context.Background(), m.fs).GPUs {
		pcis = append(pcis, g.Address)
	}
	d := burnin.Declared{}
	if h := m.node.Hardware; h != nil && h.GPU != nil {
		d = burnin.Declared{ID: h.GPU.PCIID, Memory: int64(h.GPU.Memory.Bytes), NVLinks: h.GPU.NVLinks}
	}
	h := burnin.SimulatedHealth(burnin.ClassOf(d, burnin.Health{}), pcis)
	if f, ok := m.rack.fault(m.node.Name, SickGPU); ok {
		h.GPUs[len(h.GPUs)-1].First[f.Quantity] = burnin.Value{Number: f.Number}
	}
	return h
}

// fetchRoot downloads the root file system and measures it, for as long as it
// takes: the controller may be restarting.
func (m *machine) fetchRoot(ctx context.Context, client *http.Client, args agent.Args) (string, error) {
	u := args.Controller + api.BlobPath + strings.TrimPrefix(args.Root, "sha256:")
	for {
		digest, err := m.measure(ctx, client, u)
		if err == nil || ctx.Err() != nil {
			return digest, err
		}
		if errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("fetch root file system %s: %w", args.Root, err)
		}
		m.log.Info("download of the root file system broke", "err", err)
		sleep(ctx, m.rack.pause())
	}
}

func (m *machine) measure(ctx context.Context, client *http.Client, u string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return "", fmt.Errorf("%s: %s: %w", u, resp.Status, os.ErrNotExist)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", u, resp.Status)
	}
	h := sha256.New()
	if _, err := io.Copy(h, resp.Body); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
