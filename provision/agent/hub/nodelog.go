package hub

import (
	"bytes"
	"os"
	"path/filepath"
)

// defaultLogCap is the most bytes of one log file.
const defaultLogCap = 16 << 20

// writeLog puts text at offset of the boot's log. What was written before is
// not changed, so that a repeated chunk is harmless and an agent cannot
// rewrite its past; bytes that never came are left as blanks.
func (h *Hub) writeLog(id identity, offset int64, text []byte) error {
	if h.LogDir == "" || len(text) == 0 {
		return nil
	}
	limit := h.LogCap
	if limit <= 0 {
		limit = defaultLogCap
	}
	h.logsMu.Lock()
	defer h.logsMu.Unlock()
	dir := filepath.Join(h.LogDir, id.node)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, id.boot+".log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if offset > limit {
		offset = limit
		text = nil
	}
	if offset > size {
		gap := bytes.Repeat([]byte{' '}, int(offset-size))
		gap[len(gap)-1] = '\n'
		if _, err := f.Write(gap); err != nil {
			return err
		}
		size = offset
	}
	skip := min(size-offset, int64(len(text)))
	text = text[skip:]
	text = text[:min(int64(len(text)), max(limit-size, 0))]
	if len(text) == 0 {
		return nil
	}
	if _, err := f.Write(sanitise(text)); err != nil {
		return err
	}
	return f.Close()
}

// sanitise blots out, byte for byte so that offsets hold, what a terminal
// would obey: control characters but newline and tab, and the C1 set.
func sanitise(text []byte) []byte {
	clean := bytes.Clone(text)
	for i, c := range clean {
		switch {
		case c == '\n' || c == '\t':
		case c < 0x20 || c == 0x7f:
			clean[i] = '?'
		case c == 0xc2 && i+1 < len(text) && text[i+1] < 0xa0: // U+0080 to U+009F in UTF-8
			clean[i], clean[i+1] = '?', '?'
		case c >= 0x80 && c < 0xa0 && (i == 0 || text[i-1] < 0x80): // the same as single bytes
			clean[i] = '?'
		}
	}
	return clean
}
