package bmc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	firstRecord = 0x0000 // asks for the first record
	lastRecord  = 0xffff // says that there is none after this one
	wholeRecord = 0xff   // bytes, where the BMC can give all of a record at once
	firstChunk  = 16     // bytes at a time where it cannot
	leastChunk  = 4
	// maxCancelled is how often a reservation may be lost before the log or the
	// repository is given up on.
	maxCancelled = 8
)

// errRecords says that a BMC's list of records cannot be walked.
var errRecords = errors.New("the list of records is damaged")

// recordReader reads the records of the event log (§31.5) or of a sensor data
// repository (§33.12): both name the next record in each reply, and want a
// reservation for a record that is read in parts.
type recordReader struct {
	session      *Session
	get, reserve types.Command
	head         int                   // bytes that tell a record's size
	size         func(head []byte) int // of the whole record
	most         int                   // records that are read

	chunk       int // bytes at a time; 0: whole records
	reservation uint16
	cancelled   int
}

// each calls f for every record, in the BMC's order.
func (r *recordReader) each(ctx context.Context, f func(record []byte) error) error {
	seen := make(map[uint16]bool)
	for id := uint16(firstRecord); id != lastRecord; {
		if seen[id] {
			return fmt.Errorf("%s: %w: record %#04x comes after itself", r.get.Name, errRecords, id)
		}
		seen[id] = true
		if len(seen) > r.most {
			return fmt.Errorf("%s: %w: more than %d records", r.get.Name, errRecords, r.most)
		}
		next, record, err := r.read(ctx, id)
		if err != nil {
			return err
		}
		if err := f(record); err != nil {
			return err
		}
		id = next
	}
	return nil
}

// read reads one record, whole where the BMC can.
func (r *recordReader) read(ctx context.Context, id uint16) (next uint16, record []byte, err error) {
	if r.chunk == 0 {
		next, record, err = r.part(ctx, id, 0, wholeRecord)
		if err == nil && len(record) >= r.head && len(record) >= r.size(record) {
			return next, record[:r.size(record)], nil
		}
		if err != nil && !tooMuch(err) {
			return 0, nil, err
		}
		r.chunk = firstChunk
	}
	for {
		next, record, err = r.parts(ctx, id)
		if completion(err) != types.CodeReservationCanceled || r.cancelled >= maxCancelled {
			return next, record, err
		}
		r.cancelled++ // somebody added a record or reserved: what was read may be stale
		r.reservation = 0
	}
}

// parts reads a record piece by piece.
func (r *recordReader) parts(ctx context.Context, id uint16) (next uint16, record []byte, err error) {
	if r.reservation == 0 {
		data, err := r.session.wire.call(ctx, request{command: r.reserve})
		if err != nil {
			return 0, nil, err
		}
		if len(data) < 2 {
			return 0, nil, fmt.Errorf("%s: reply of %d bytes is too short", r.reserve.Name, len(data))
		}
		r.reservation = binary.LittleEndian.Uint16(data)
	}
	want := r.head
	for len(record) < want {
		n := min(want-len(record), r.chunk)
		var piece []byte
		next, piece, err = r.part(ctx, id, len(record), n)
		if tooMuch(err) && n > leastChunk {
			r.chunk = n / 2
			continue
		}
		if err != nil {
			return 0, nil, err
		}
		if len(piece) == 0 || len(piece) > n {
			return 0, nil, fmt.Errorf("%s: %w: %d bytes were asked for and %d came", r.get.Name, errRecords, n, len(piece))
		}
		record = append(record, piece...)
		if len(record) >= r.head {
			want = r.size(record)
		}
	}
	return next, record, nil
}

// part is one reply: the next record's ID and some bytes of this one.
func (r *recordReader) part(ctx context.Context, id uint16, at, n int) (next uint16, piece []byte, err error) {
	req := binary.LittleEndian.AppendUint16(nil, r.reservation)
	req = append(binary.LittleEndian.AppendUint16(req, id), byte(at), byte(n))
	data, err := r.session.wire.call(ctx, request{command: r.get, data: req})
	if err != nil {
		return 0, nil, err
	}
	if len(data) < 2 {
		return 0, nil, fmt.Errorf("%s: reply of %d bytes is too short", r.get.Name, len(data))
	}
	return binary.LittleEndian.Uint16(data), append([]byte(nil), data[2:]...), nil
}

// completion is the completion code that err stands for; CodeOK: none.
func completion(err error) types.CompletionCode {
	var refused *commandError
	if errors.As(err, &refused) {
		return refused.code
	}
	return types.CodeOK
}

// tooMuch says that the BMC cannot return so many bytes at once. Firmware uses
// several codes for it.
func tooMuch(err error) bool {
	switch completion(err) {
	case types.CodeCannotReturnRequestedDataBytes, types.CodeRequestDataLengthInvalid, types.CodeRequestDataLengthLimitExceeded,
		types.CodeCannotProvideResponse, types.CodeUnspecifiedError:
		return true
	}
	return false
}
