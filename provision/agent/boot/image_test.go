package boot

import (
	"errors"
	"fmt"
	"testing"

	"firstlight/provision/agent/api"
)

func TestReportOf(t *testing.T) {
	digest := &digestError{got: "sha256:aa", want: "sha256:bb"}
	for _, c := range []struct {
		err  error
		want api.Report
	}{
		{digest, api.Report{Kind: api.ReportDigestMismatch, Message: "root file system digest is sha256:aa, manifest says sha256:bb"}},
		{fmt.Errorf("image: %w", digest), api.Report{Kind: api.ReportDigestMismatch, Message: "image: root file system digest is sha256:aa, manifest says sha256:bb"}},
		{errors.New("mount: no such device"), api.Report{Kind: api.ReportBootFailed, Message: "mount: no such device"}},
	} {
		if got := reportOf(c.err); got != c.want {
			t.Errorf("reportOf(%v) = %+v; want %+v", c.err, got, c.want)
		}
	}
}
