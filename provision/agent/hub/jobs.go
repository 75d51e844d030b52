package hub

import (
	"slices"
	"time"

	"firstlight/provision/agent/api"
)

// seenEvery is the shortest time between two EventSeen of one boot.
const seenEvery = 5 * time.Second

// boot is the entry of an identity; h.mu is held. The kind is not part of the
// key: a boot identity belongs to one kind.
func (h *Hub) boot(node, bootID string) *boot {
	id := identity{node: node, boot: bootID}
	b := h.boots[id]
	if b == nil {
		if h.boots == nil {
			h.boots = map[identity]*boot{}
		}
		b = &boot{wake: make(chan struct{})}
		h.boots[id] = b
	}
	return b
}

// changed wakes every poll of b; h.mu is held.
func (b *boot) changed() {
	close(b.wake)
	b.wake = make(chan struct{})
}

// add puts job on the list of its boot, unless it is there already.
func (h *Hub) add(node, bootID string, job api.Job) (*boot, *pending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.boot(node, bootID)
	for _, p := range b.jobs {
		if p.job.ID == job.ID {
			p.waiters++
			return b, p
		}
	}
	p := &pending{job: job, waiters: 1, done: make(chan struct{})}
	b.jobs = append(b.jobs, p)
	b.changed()
	return b, p
}

// leave takes a waiter off p, and p off the list with the last of them.
func (h *Hub) leave(b *boot, p *pending) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.waiters--; p.waiters == 0 {
		b.jobs = slices.DeleteFunc(b.jobs, func(q *pending) bool { return q == p })
	}
}

// next is the first job of a boot that is not answered and not in have, or
// else the channel that is closed when that may have changed.
func (h *Hub) next(id identity, have []string) (*api.Job, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := h.boot(id.node, id.boot)
	for _, p := range b.jobs {
		select {
		case <-p.done:
		default:
			if !slices.Contains(have, p.job.ID) {
				job := p.job
				return &job, nil
			}
		}
	}
	return nil, b.wake
}

// answer gives r to those who wait for it in its own boot, and says whether
// there was anyone.
func (h *Hub) answer(id identity, r api.Result) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.boot(id.node, id.boot).jobs {
		if p.job.ID != r.JobID {
			continue
		}
		select {
		case <-p.done: // answered already; the first answer holds
		default:
			p.result = r
			close(p.done)
		}
		return true
	}
	return false
}

// touch notes a proven request and says whether an EventSeen is due.
func (h *Hub) touch(id identity) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.seen == nil {
		h.seen = map[string]time.Time{}
	}
	now := h.now()
	h.seen[id.node] = now
	b := h.boot(id.node, id.boot)
	if now.Sub(b.observed) < seenEvery {
		return false
	}
	b.observed = now
	return true
}

// forgetOthers drops the empty entries of a node's earlier boots, so that the
// table does not grow with every boot.
func (h *Hub) forgetOthers(id identity) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for other, b := range h.boots {
		if other.node == id.node && other.boot != id.boot && len(b.jobs) == 0 {
			delete(h.boots, other)
		}
	}
}
