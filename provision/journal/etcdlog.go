package journal

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// etcdLog takes etcd's log. Warnings and errors go to our logger as details,
// for an operator can do nothing about them. A fatal entry, after which etcd
// would end the process without a word on the terminal, ends only the
// goroutine that wrote it; its text becomes the error of every later call.
type etcdLog struct {
	out    *slog.Logger
	failed chan struct{} // closed at the first fatal entry

	mu  sync.Mutex
	err error
}

func newEtcdLog(out *slog.Logger) *etcdLog {
	return &etcdLog{out: out, failed: make(chan struct{})}
}

func (l *etcdLog) logger() *zap.Logger {
	return zap.New(etcdCore{log: l}, zap.WithFatalHook(fatalHook{l}), zap.WithPanicHook(fatalHook{l}))
}

func (l *etcdLog) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// fatalHook replaces zap's exit of the process.
type fatalHook struct{ log *etcdLog }

// OnWrite implements zapcore.CheckWriteHook.
func (h fatalHook) OnWrite(ce *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := fmt.Errorf("etcd: %s", ce.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("etcd: %s: %w", ce.Message, cause)
		}
	}
	h.log.mu.Lock()
	if h.log.err == nil {
		h.log.err = err
		close(h.log.failed)
	}
	h.log.mu.Unlock()
	runtime.Goexit()
}

// etcdCore passes entries on to slog.
type etcdCore struct {
	log    *etcdLog
	fields []zapcore.Field
}

// Enabled implements zapcore.LevelEnabler.
func (etcdCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

// With implements zapcore.Core.
func (c etcdCore) With(f []zapcore.Field) zapcore.Core {
	return etcdCore{log: c.log, fields: append(append([]zapcore.Field(nil), c.fields...), f...)}
}

// Check implements zapcore.Core.
func (c etcdCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

// Write implements zapcore.Core.
func (c etcdCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field(nil), c.fields...), fields...) {
		f.AddTo(enc)
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	level := slog.LevelDebug
	if e.Level >= zapcore.DPanicLevel {
		level = slog.LevelError
	}
	c.log.out.LogAttrs(context.Background(), level, "etcd: "+e.Message, attrs...)
	return nil
}

// Sync implements zapcore.Core.
func (etcdCore) Sync() error { return nil }
