package vm

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// qmp is a QEMU Machine Protocol session: one JSON object a line in each
// direction, answers in order, events between them.
type qmp struct {
	conn *os.File
	done chan struct{} // closed when QEMU has closed its end

	mu       sync.Mutex
	shutdown string // reason of the SHUTDOWN event, "" until it came
}

// greetingWithin is generous: QEMU reads its firmware before it answers, and a
// loaded host is slow at that.
const greetingWithin = 20 * time.Second

// qmpMessage is anything that QEMU says.
type qmpMessage struct {
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Desc string `json:"desc"`
	} `json:"error"`
	Event string `json:"event"`
	Data  struct {
		Reason string `json:"reason"`
	} `json:"data"`
}

// newQMP opens the session: a greeting, then qmp_capabilities leaves the
// negotiation. Its answer comes when the machine is built and runs. The reader
// that newQMP starts ends when QEMU closes its end.
func newQMP(conn *os.File) (*qmp, error) {
	conn.SetReadDeadline(time.Now().Add(greetingWithin))
	dec := json.NewDecoder(conn)
	var m qmpMessage
	if err := dec.Decode(&m); err != nil {
		return nil, fmt.Errorf("no QMP greeting: %w", err)
	}
	if m.Greeting == nil {
		return nil, errors.New("no QMP greeting: something else came")
	}
	q := &qmp{conn: conn, done: make(chan struct{})}
	if err := q.execute("qmp_capabilities"); err != nil {
		return nil, err
	}
	for m.Return == nil {
		m = qmpMessage{}
		if err := dec.Decode(&m); err != nil {
			return nil, fmt.Errorf("no answer to qmp_capabilities: %w", err)
		}
		if m.Error != nil {
			return nil, fmt.Errorf("qmp_capabilities: %s", m.Error.Desc)
		}
	}
	conn.SetReadDeadline(time.Time{})
	go q.read(dec)
	return q, nil
}

func (q *qmp) read(dec *json.Decoder) {
	defer close(q.done)
	for {
		var m qmpMessage
		if dec.Decode(&m) != nil {
			return
		}
		if m.Event == "SHUTDOWN" {
			q.mu.Lock()
			q.shutdown = m.Data.Reason
			q.mu.Unlock()
		}
	}
}

// reason says why the machine stopped, in QEMU's words ("guest-reset",
// "guest-shutdown", …), and "" when it did not say.
func (q *qmp) reason() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.shutdown
}

// execute sends a command that has no arguments and whose answer tells nothing.
func (q *qmp) execute(command string) error {
	q.conn.SetWriteDeadline(time.Now().Add(greetingWithin))
	if _, err := fmt.Fprintf(q.conn, "{\"execute\":%q}\n", command); err != nil {
		return fmt.Errorf("qemu does not take %s: %w", command, err)
	}
	return nil
}
