package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"firstlight/inventory"
	"firstlight/provision/bmc"
)

func (a *app) consoleCommand() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "console NODE [DIR]",
		Short: "Attach to a node's serial console, through its BMC",
		Long: `Attach this terminal to the serial console of a node, which its BMC passes on (IPMI
Serial over LAN). At the start of a line, ~. leaves, ~B sends a break, ~? tells the
keys and ~~ types a tilde. One session at a time has a console: when it is another,
that is said; -force takes it over. apply has the consoles of the nodes that it
brings up, writes them to .firstlight/logs, and comes back when you have left.`,
		Example: `  firstlight console hnode017 racks/a
  firstlight console node-1 examples/two-node-lab
  firstlight console -force hnode017 racks/a`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: a.completeNodes,
		RunE: func(c *cobra.Command, args []string) error {
			return a.console(c.Context(), args, force)
		},
	}
	a.inventoryFlags(c)
	c.Flags().BoolVar(&force, "force", false, "take the console over from whoever has it")
	return c
}

func (a *app) console(ctx context.Context, args []string, force bool) error {
	s, err := a.load(dirArg(args, 1))
	if err != nil {
		return err
	}
	nodes, err := s.Cluster.Select(args[:1])
	if err != nil {
		return err
	}
	if len(nodes) != 1 {
		return errors.New("a console is of one node")
	}
	if !a.entered {
		if err := a.labIsUp(ctx, s); err != nil {
			return err
		}
	}
	if err := a.enterLab(s); err != nil {
		return err
	}
	boards, err := s.newBoards(nil)
	if err != nil {
		return err
	}
	defer boards.Close()
	ep, err := boards.serial(nodes[0])
	if err != nil {
		return err
	}
	return a.attach(ctx, boards.ipmi, ep, force)
}

// serial is the endpoint of a node's console, which is reached by IPMI.
func (b *boards) serial(n *inventory.Node) (bmc.Endpoint, error) {
	if n.BMC == nil {
		return bmc.Endpoint{}, fmt.Errorf("node %s: no bmc is declared", n.Name)
	}
	declared := n.BMC.By("ipmi")
	if declared == nil {
		return bmc.Endpoint{}, fmt.Errorf("node %s: its BMC is declared to speak %s (%s), and consoles are reached by IPMI: declare that too",
			n.Name, n.BMC.Protocol, b.cluster.DeclaredAt(n.BMC.Range))
	}
	d, err := b.by(n, declared)
	if err != nil {
		return bmc.Endpoint{}, err
	}
	return d.(boardOf[bmc.Endpoint, *bmc.Session]).ep, nil
}

// attach joins this terminal with a node's console until ~. or Ctrl-C, which on a
// terminal goes to the node.
func (a *app) attach(ctx context.Context, client *bmc.Client, ep bmc.Endpoint, force bool) error {
	shown := newSpool()
	x, err := client.OpenConsole(ctx, ep, force, shown.add)
	var busy *bmc.ConsoleBusyError
	if errors.As(err, &busy) {
		return fmt.Errorf("%w with -force", err)
	}
	if err != nil {
		return err
	}
	defer x.Close()
	if f, ok := a.stdin.(*os.File); ok && terminal(f) {
		was, err := term.MakeRaw(int(f.Fd()))
		if err != nil {
			return err
		}
		defer term.Restore(int(f.Fd()), was)
	}
	fmt.Fprintf(a.stderr, "attached to %s; ~. at the start of a line leaves, ~? tells more\r\n", ep.Node)
	printed, left := make(chan error, 1), make(chan error, 1)
	go func() { printed <- shown.copyTo(a.stdout) }()         // ends when shown is closed
	go func() { left <- a.typing(a.stdin, consoleKeys{x}) }() // ends with ~. or the process
	select {
	case err = <-left:
	case <-x.Done():
		err = x.Err()
	case <-ctx.Done():
	case err = <-printed:
		printed <- nil
	}
	shown.close()
	if perr := <-printed; err == nil {
		err = perr
	}
	fmt.Fprint(a.stderr, "\r\n")
	return err
}

// keyed is what is typed at.
type keyed interface {
	io.Writer
	Break() error
}

// consoleKeys is a console as what is typed at.
type consoleKeys struct{ *bmc.Console }

// typing passes what is typed on, up to ~. at the start of a line, or the end of
// what there is.
func (a *app) typing(from io.Reader, to keyed) error {
	const help = "\r\n~.  leave\r\n~B  send a break\r\n~~  type a tilde\r\n~?  this list\r\n"
	buf := make([]byte, 1024)
	start, tilde := true, false
	for {
		n, err := from.Read(buf)
		var out []byte
		for _, b := range buf[:n] {
			switch {
			case tilde && b == '.':
				_, err := to.Write(out)
				return err
			case tilde && (b == 'B' || b == '?'):
				if b == '?' {
					fmt.Fprint(a.stderr, help)
				} else if err := to.Break(); err != nil {
					return err
				}
				tilde = false
				continue
			case tilde && b != '~':
				out = append(out, '~', b)
			case !tilde && start && b == '~':
				tilde = true
				continue
			default:
				out = append(out, b)
			}
			tilde, start = false, b == '\r' || b == '\n'
		}
		if len(out) > 0 {
			if _, err := to.Write(out); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// spool holds what a console shows until the terminal takes it: the event loop of
// all BMCs must not wait for one terminal.
type spool struct {
	mu     sync.Mutex
	filled *sync.Cond
	data   []byte
	closed bool
}

// spoolMost bounds what waits for a terminal that was stopped; more is lost.
const spoolMost = 4 << 20

func newSpool() *spool {
	s := &spool{}
	s.filled = sync.NewCond(&s.mu)
	return s
}

func (s *spool) add(b []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = append(s.data, b[:min(len(b), max(spoolMost-len(s.data), 0))]...)
	s.filled.Signal()
}

func (s *spool) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.filled.Signal()
}

// copyTo ends when s is closed and all of it was written.
func (s *spool) copyTo(w io.Writer) error {
	for {
		s.mu.Lock()
		for len(s.data) == 0 && !s.closed {
			s.filled.Wait()
		}
		data := s.data
		s.data = nil
		s.mu.Unlock()
		if len(data) == 0 {
			return nil
		}
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
}
