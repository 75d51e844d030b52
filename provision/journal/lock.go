package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"firstlight/provision"
)

const (
	// lockTTL is after which a silent holder's lock is gone. A holder that was
	// killed on this machine is found out at once, so this is for other hosts;
	// it is long because a starved machine may stand still for many seconds.
	lockTTL       = 30 * time.Second
	unlockTimeout = 2 * time.Second
)

// lockRecord is the value of the lock key: who has it, and how to find out on
// the same machine whether that process still exists.
type lockRecord struct {
	Holder string    `json:"holder"`
	Since  time.Time `json:"since"`
	process
}

// process names one process for ever: process ids are used again, the pair
// with the start time is not, within one boot and one PID namespace.
type process struct {
	PID       int    `json:"pid"`
	Start     string `json:"start"` // clock ticks after boot, /proc/PID/stat field 22
	Boot      string `json:"boot"`  // /proc/sys/kernel/random/boot_id
	Namespace string `json:"pidns"` // /proc/self/ns/pid
	Host      string `json:"host"`
}

func thisProcess() process {
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	ns, _ := os.Readlink("/proc/self/ns/pid")
	host, _ := os.Hostname()
	pid := os.Getpid()
	start, _ := processStart(pid)
	return process{PID: pid, Start: start, Boot: strings.TrimSpace(string(boot)), Namespace: ns, Host: host}
}

// processStart returns a process's start time and whether it is running. A
// zombie is not: it will write nothing any more.
func processStart(pid int) (string, bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", false
	}
	// The command, in parentheses, may itself hold spaces and parentheses.
	i := strings.LastIndexByte(string(raw), ')')
	if i < 0 {
		return "", false
	}
	f := strings.Fields(string(raw[i+1:]))
	if len(f) < 20 {
		return "", false
	}
	return f[19], f[0] != "Z" && f[0] != "X"
}

// dead says whether p certainly runs no more. It can tell only for processes
// of this boot and PID namespace.
func (p process) dead(self process) bool {
	if p.Boot == "" || p.Boot != self.Boot || p.Namespace != self.Namespace || p.PID == 0 {
		return false
	}
	start, running := processStart(p.PID)
	return !running || start != p.Start
}

// heldLock is the writer's lock as this process has it.
type heldLock struct {
	lease    clientv3.LeaseID
	revision int64 // the lock key's creation
	value    string
	again    sync.Mutex // held while the lock is taken anew
	cancel   context.CancelFunc
	renewing sync.WaitGroup
	lost     bool // under Journal.lockMu
}

// Lock takes the writer's lock, for which there is one holder at a time; holder
// says who asks ("apply, process 4711 on controller-1"). A lock whose process
// was killed on this machine is taken over at once, one from before this
// machine's last boot when its lease has run out (30 s at most). Any other
// holder gives a *provision.LockedError at once. unlock gives it back.
func (j *Journal) Lock(ctx context.Context, holder string) (unlock func(), err error) {
	if j.opts.ReadOnly {
		return nil, j.wrap(ErrReadOnly)
	}
	if rev, lost := j.lockRevision(); rev != 0 && !lost {
		return nil, j.wrap(errors.New("this process has the writer's lock already"))
	}
	if len(j.opts.Endpoints) == 0 {
		if err := checkSpace(j.opts.Dir, j.opts.MinFree); err != nil {
			return nil, j.wrap(err)
		}
	}
	value, err := json.Marshal(lockRecord{Holder: holder, Since: time.Now().UTC(), process: thisProcess()})
	if err != nil {
		return nil, j.wrap(err)
	}
	h := &heldLock{value: string(value)}
	if err := j.grant(ctx, h); err != nil {
		return nil, err
	}
	if err := j.takeLock(ctx, h, h.value); err != nil {
		j.revoke(h)
		return nil, err
	}
	rctx, cancel := context.WithCancel(context.Background())
	h.cancel = cancel
	h.renewing.Go(func() { j.renew(rctx, h) }) // ends with unlock or Close
	j.lockMu.Lock()
	j.lock = h
	j.lockMu.Unlock()
	return j.unlock, nil
}

// grant takes a lease for the lock.
func (j *Journal) grant(ctx context.Context, h *heldLock) error {
	return j.do(ctx, func(ctx context.Context, c *clientv3.Client) error {
		lease, err := c.Grant(ctx, int64(lockTTL/time.Second))
		if err == nil {
			h.lease = lease.ID
		}
		return err
	})
}

// relock takes a lock anew whose lease ran out while this machine stood still.
// That is safe: Append compares the journal's last serial, so that if another
// writer was there in the meantime nothing is written. It fails when another
// holds the lock now.
func (j *Journal) relock(ctx context.Context, h *heldLock, seen int64) error {
	h.again.Lock()
	defer h.again.Unlock()
	if rev, lost := j.lockRevision(); rev != seen || lost {
		return nil // somebody was faster, or it is lost for good
	}
	next := &heldLock{}
	err := j.grant(ctx, next)
	if err != nil {
		return err
	}
	other, err := j.tryLock(ctx, next, h.value)
	if err != nil {
		return err
	}
	j.lockMu.Lock()
	defer j.lockMu.Unlock()
	if other != nil {
		h.lost = true
		return fmt.Errorf("%w: %s has the writer's lock", provision.ErrConflict, other.Holder)
	}
	h.lease, h.revision = next.lease, next.revision
	return nil
}

// takeLock puts the lock key, over a dead holder's if need be.
func (j *Journal) takeLock(ctx context.Context, h *heldLock, value string) error {
	deadline := time.Now().Add(lockTTL + 2*time.Second)
	waiting := false
	for {
		other, err := j.tryLock(ctx, h, value)
		if err != nil || other == nil {
			return err
		}
		self := thisProcess()
		rebooted := other.Host == self.Host && other.Boot != self.Boot
		if !rebooted || time.Now().After(deadline) {
			return &provision.LockedError{Holder: other.Holder, Since: other.Since}
		}
		if !waiting {
			waiting = true
			j.log.Warn("the journal was locked before this machine's last boot; waiting for that lock to run out",
				"holder", other.Holder, "at_most", lockTTL)
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// tryLock returns nil when the lock is ours, else who has it.
func (j *Journal) tryLock(ctx context.Context, h *heldLock, value string) (other *lockRecord, err error) {
	key := j.prefix + "lock"
	replace := int64(0) // the revision of a dead holder's key
	err = j.do(ctx, func(ctx context.Context, c *clientv3.Client) error {
		for {
			then := []clientv3.Op{clientv3.OpPut(key, value, clientv3.WithLease(h.lease))}
			if replace != 0 {
				// A key that is only overwritten keeps its creation revision,
				// and with it the dead holder's right to write.
				then = []clientv3.Op{clientv3.OpDelete(key)}
			}
			resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", replace)).
				Then(then...).Else(clientv3.OpGet(key)).Commit()
			if err != nil {
				return err
			}
			if resp.Succeeded {
				if replace != 0 {
					replace = 0
					continue
				}
				h.revision, other = resp.Header.Revision, nil
				return nil
			}
			kvs := resp.Responses[0].GetResponseRange().Kvs
			if len(kvs) == 0 {
				replace = 0
				continue
			}
			if string(kvs[0].Value) == value { // our own, of a try whose reply was lost
				h.revision, other = kvs[0].CreateRevision, nil
				return nil
			}
			r := &lockRecord{}
			if err := json.Unmarshal(kvs[0].Value, r); err != nil {
				return fmt.Errorf("read key %s: %w", key, err)
			}
			if !r.dead(thisProcess()) {
				other = r
				return nil
			}
			j.log.Warn("the process that had the journal's lock has died; taking the lock over", "holder", r.Holder)
			replace = kvs[0].ModRevision
		}
	})
	return other, err
}

// renew keeps the lease alive, and takes the lock anew when it ran out.
func (j *Journal) renew(ctx context.Context, h *heldLock) {
	tick := time.NewTicker(lockTTL / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := j.do(ctx, func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.KeepAliveOnce(ctx, j.lockLease(h))
			return err
		})
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			j.log.Warn("the journal's writer lock ran out, taking it anew", "ttl", lockTTL)
			rev, _ := j.lockRevision()
			err = j.relock(ctx, h, rev)
		}
		if errors.Is(err, provision.ErrConflict) {
			j.log.Error("the journal's writer lock is lost", "err", err)
			return
		}
		if err != nil && ctx.Err() == nil {
			j.log.Warn("cannot renew the journal's writer lock, trying again", "err", err)
		}
	}
}

// lockLease is the lease that the lock hangs on now.
func (j *Journal) lockLease(h *heldLock) clientv3.LeaseID {
	j.lockMu.Lock()
	defer j.lockMu.Unlock()
	return h.lease
}

// lockRevision returns what an Append has to find as the lock key's creation:
// 0, no lock, for a process that does not hold it.
func (j *Journal) lockRevision() (rev int64, lost bool) {
	j.lockMu.Lock()
	defer j.lockMu.Unlock()
	if j.lock == nil {
		return 0, false
	}
	return j.lock.revision, j.lock.lost
}

// unlock gives the lock back if it is held.
func (j *Journal) unlock() {
	j.lockMu.Lock()
	h := j.lock
	j.lock = nil
	j.lockMu.Unlock()
	if h == nil {
		return
	}
	h.cancel()
	h.renewing.Wait()
	j.revoke(h)
}

// revoke ends the lease, and with it the lock key bound to it. When it fails
// the lease runs out by itself.
func (j *Journal) revoke(h *heldLock) {
	ctx, cancel := context.WithTimeout(context.Background(), unlockTimeout)
	defer cancel()
	err := j.do(ctx, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Revoke(ctx, h.lease)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		j.log.Warn("cannot give the journal's lock back; it runs out by itself", "after", lockTTL, "err", err)
	}
}
