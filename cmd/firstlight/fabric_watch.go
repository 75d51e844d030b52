package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"firstlight/fabric"
	"firstlight/provision/acceptance"
)

func (a *app) fabricWatchCommand() *cobra.Command {
	var from fabricSource
	var name string
	var interval time.Duration
	var samples int
	c := &cobra.Command{
		Use:   "watch [DIR]",
		Short: "Keep reading the counters of every link, and tell what worsens",
		Long: `Read the counters of every connected port again and again, and print a line when
a link gets worse, when it is well again, and when it goes away. What was counted in
the last 25 hours is kept in DIR/.firstlight/fabric, in a few megabytes: it is there
after a restart, so that bit error rates and flaps get their verdicts in time.
Limits are those of firstlight fabric counters. On a terminal the state of all
links stands in the last line; elsewhere it is printed every ten minutes.

Ends with Ctrl-C, or after -samples readings. Then it exits 0 when nothing is
off, 2 when something is; 1 is an error.`,
		Example: `  firstlight fabric watch racks/a
  firstlight fabric watch -interval 10s -samples 60 racks/a
  firstlight fabric watch -json racks/a | jq -r 'select(.type == "worse") | .data.part'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := liveOnly(c, &from); err != nil {
				return err
			}
			if interval < time.Second {
				return fmt.Errorf("-interval %v: a second is the shortest", interval)
			}
			if samples < 0 {
				return fmt.Errorf("-samples %d: a number of readings, or 0 for no end", samples)
			}
			return a.fabricWatch(c.Context(), from, dirArg(args, 0), name, interval, samples)
		},
	}
	a.inventoryFlags(c)
	sourceFlags(c, &from)
	hideObserved(c)
	a.judgeFlags(c, &name)
	f := c.Flags()
	f.DurationVar(&interval, "interval", 30*time.Second, "the `TIME` from one reading to the next")
	f.IntVar(&samples, "samples", 0, "end after this `NUMBER` of readings; 0 does not end")
	complete(c, "interval", cobra.NoFileCompletions)
	complete(c, "samples", cobra.NoFileCompletions)
	return c
}

// statusEvery is how often the state of all links is printed where there is no
// terminal.
const statusEvery = 10 * time.Minute

// watch is a fabric that is being watched.
type watch struct {
	app     *app
	judge   *linkJudge
	from    fabricSource
	file    string // of the history
	history *fabric.History
	before  *readFabric      // the last reading
	off     map[linkKey]bool // what is known to be off
	last    *linkVerdicts    // nil: none yet
	told    time.Time        // when the state of all links was printed last
	gaps    string           // what did not answer, as it was said last
}

// linkKey tells checks of two readings apart.
type linkKey struct{ part, check string }

func keyOf(c *fabric.LinkCheck) linkKey { return linkKey{c.Part, c.Name} }

func (a *app) fabricWatch(ctx context.Context, from fabricSource, dir, name string, interval time.Duration, samples int) error {
	judge, err := a.linkJudge(ctx, dir, name)
	if err != nil {
		return err
	}
	if from, err = judge.source(from); err != nil {
		return err
	}
	state, err := judge.site.mkdir("fabric")
	if err != nil {
		return err
	}
	unlock, err := lockWatch(state)
	if err != nil {
		return err
	}
	defer unlock()
	w := &watch{app: a, judge: judge, from: from, file: filepath.Join(state, "history"), off: map[linkKey]bool{}}
	if w.history, err = readHistory(w.file); err != nil {
		return err
	}
	for k := 0; samples == 0 || k < samples; k++ {
		next := time.Now().Add(interval)
		if err := w.sample(ctx); err != nil {
			if w.last == nil || ctx.Err() != nil {
				return w.end(ctx, err)
			}
			w.unread(err)
		}
		if k+1 == samples {
			break
		}
		select {
		case <-ctx.Done():
			return w.end(ctx, nil)
		case <-time.After(time.Until(next)):
		}
	}
	return w.end(ctx, nil)
}

// lockWatch holds a state directory against a second watch.
func lockWatch(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another firstlight fabric watch keeps its readings in %s: stop it, or look at what it prints", dir)
		}
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// readHistory reads what earlier watches counted; a new one where there is none.
func readHistory(file string) (*fabric.History, error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return fabric.NewHistory(), nil
	}
	if err != nil {
		return nil, err
	}
	h, err := fabric.ReadHistory(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("%s: %w; move it away to begin anew", file, err)
	}
	return h, nil
}

// sample reads once, keeps it, and tells what changed.
func (w *watch) sample(ctx context.Context) error {
	read, err := w.app.readCounters(ctx, w.from)
	if err == nil && ctx.Err() != nil {
		err = ctx.Err() // it was read in part, because it was stopped
	}
	if err != nil {
		return err
	}
	now := time.Now()
	w.history.Add(read.Observed, now, w.judge.limits.Load)
	var file bytes.Buffer
	if err := w.history.Write(&file); err != nil {
		return err
	}
	if err := writeFileAtomic(w.file, file.Bytes(), 0o600); err != nil {
		return err
	}
	var gone []goneLink
	if w.last != nil {
		gone = w.last.gone
	}
	t := w.judge.judge(w.before, read, w.history.Recent(read.Observed, w.judge.limits), gone)
	if read.err != nil {
		w.unread(read.err)
	}
	if gaps := fmt.Sprint(read.unanswered, read.Inconsistencies); gaps != w.gaps {
		w.gaps = gaps
		w.clear()
		w.app.sayGaps(read)
	}
	w.tell(t, now)
	w.before, w.last = read, t
	return nil
}

// unread says that a reading failed; the next one makes up for it.
func (w *watch) unread(err error) {
	w.clear()
	fmt.Fprintf(w.app.stderr, "firstlight: %s: %v\n", time.Now().Format(time.TimeOnly), err)
}

// clear takes the line of state from the terminal.
func (w *watch) clear() {
	if drawable(w.app.stderr) && !w.app.json {
		fmt.Fprint(w.app.stderr, "\r\x1b[K")
	}
}

// tell prints what is off that was not before or counts on, what is well again,
// and from time to time how all links are.
func (w *watch) tell(t *linkVerdicts, now time.Time) {
	w.clear()
	off := map[linkKey]bool{}
	counted := map[[2]string]bool{} // part and counter: two limits can be of one counter
	for i := range t.off {
		c := &t.off[i]
		off[keyOf(c)] = true
		if twice := [2]string{c.Part, string(c.Counter)}; c.Counter != "" {
			if counted[twice] {
				continue
			}
			counted[twice] = true
		}
		switch {
		case w.last == nil:
			w.line("off", c, now)
		case !w.off[keyOf(c)] || c.New > 0:
			w.line("worse", c, now)
		}
	}
	for i := range t.all {
		c := &t.all[i]
		if twice := [2]string{c.Part, string(c.Counter)}; !c.Off() && c.New > 0 && c.Worsens() && !counted[twice] {
			counted[twice] = true
			w.line("worse", c, now)
		}
		if w.off[keyOf(c)] && !c.Off() {
			w.line("better", c, now)
		}
	}
	w.off = off
	if w.app.json {
		w.event("sample", t)
		return
	}
	if drawable(w.app.stderr) {
		fmt.Fprintf(w.app.stderr, "%s  %s", now.Format(time.TimeOnly), clipTo(t.String(), width(w.app.stderr)-12))
	} else if now.Sub(w.told) >= statusEvery {
		w.told = now
		fmt.Fprintf(w.app.stdout, "%s  %s\n", now.Format(time.TimeOnly), t)
	}
}

func clipTo(s string, columns int) string {
	if r := []rune(s); len(r) > columns {
		return string(r[:max(0, columns)])
	}
	return s
}

var changeColours = map[string]string{"off": "31", "worse": "31", "better": "32"}

func (w *watch) line(change string, c *fabric.LinkCheck, now time.Time) {
	if w.app.json {
		_ = w.app.event(change, c)
		return
	}
	text := fmt.Sprintf("%s: %s: %s", c.Name, c.Part, c.Reading)
	if c.Verdict == acceptance.Fail {
		text += "; wanted " + c.Threshold
	}
	if c.Suspect != "" {
		text += "; suspect: " + c.Suspect
	}
	fmt.Fprintf(w.app.stdout, "%s  %s  %s\n", now.Format(time.TimeOnly), paint(colour(w.app.stdout), changeColours[change], fmt.Sprintf("%-6s", change)), text)
}

// event tells how all links are.
func (w *watch) event(kind string, t *linkVerdicts) {
	_ = w.app.event(kind, map[string]any{"summary": t.summary(), "undecided": t.undecided, "samples": w.history.Samples(), "since": w.history.Since()})
}

// end is the last line, and the exit status. To be stopped is how a watch ends.
func (w *watch) end(ctx context.Context, err error) error {
	w.clear()
	if err != nil && ctx.Err() == nil {
		return err
	}
	if w.last == nil {
		return &exit{130, errors.New("interrupted before the first reading; nothing was judged")}
	}
	if w.app.json {
		w.event("end", w.last)
	} else {
		fmt.Fprintf(w.app.stdout, "%s  %s\n", time.Now().Format(time.TimeOnly), w.last)
	}
	if len(w.last.off) > 0 {
		return &exit{code: 2}
	}
	return nil
}
