package burnin

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firstlight/provision/acceptance"
)

// Documents in the forms that the programs' own documentation and sources give.
const (
	dcgm4 = `{"DCGM Diagnostic": {"test_categories": [
 {"category": "Deployment", "tests": [{"name": "software", "results": [
   {"entity_group": "GPU", "entity_group_id": 1, "entity_id": 0, "status": "Pass"}, {"entity_group": "GPU", "entity_group_id": 1, "entity_id": 1, "status": "Pass"}], "test_summary": {"status": "Pass"}}]},
 {"category": "Hardware", "tests": [
   {"name": "memory", "results": [{"entity_group": "GPU", "entity_id": 0, "status": "Pass"},
     {"entity_group": "GPU", "entity_id": 1, "status": "Fail", "warnings": [{"warning": "2 double-bit ECC errors\nGPU 1", "error_id": 5, "error_category": 1, "error_severity": 2}]}], "test_summary": {"status": "Fail"}},
   {"name": "eud", "results": [], "test_summary": {"status": "Skip", "info": ["not installed"]}}]}]},
 "entity_groups": [], "metadata": {"version": "4.2.3", "Driver Version Detected": "570.86.15"}}`
	dcgm3 = `Successfully ran diagnostic for group.
{"DCGM GPU Diagnostic": {"version": "3.3.9", "test_categories": [{"category": "Integration", "tests": [{"name": "PCIe", "results": [
 {"gpu_ids": "0", "status": "Pass", "info": "54.9 GB/s"}, {"gpu_ids": "1", "status": "Warn", "warnings": ["replays"]}]}]}]}}`
	nvbandwidthWell = `{"nvbandwidth": {"CUDA Runtime Version": 12080, "Driver Version": "570.86.15", "version": "v0.8", "testcases": [
 {"name": "host_to_device_memcpy_ce", "status": "Passed", "bandwidth_description": "memcpy CE CPU(row) -> GPU(column) bandwidth (GB/s)", "bandwidth_matrix": [["55.31", "31.2"]], "sum": 86.51},
 {"name": "device_to_device_memcpy_read_ce", "status": "Passed", "bandwidth_matrix": [["N/A", "392.1"], ["391.7", "N/A"]], "sum": 783.8},
 {"name": "device_to_host_memcpy_ce", "status": "Waived"}]}}`
	ncclWell = `# nccl-tests version 2.17.1 nccl-headers=22805 nccl-library=22805
# nThread 1 nGpus 8 minBytes 17179869184 maxBytes 17179869184 step: 1048576(bytes) warmup iters: 1 iters: 20 agg iters: 1 validation: 1 graph: 0
#
# Using devices
%s#
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
 17179869184    4294967296     float     sum      -1    62800  273.56  478.73      %s    62790  273.61  478.82      0
# Out of bounds values : 0 OK
# Avg bus bandwidth    : %s
#
`
)

// nccl is what all_reduce_perf prints on so many GPUs.
func nccl(gpus int, wrong, rate string) string {
	var devices strings.Builder
	for i := range gpus {
		fmt.Fprintf(&devices, "#  Rank %2d Group  0 Pid  41%02d on  hnode017 device %2d [0000:%02x:00] NVIDIA H200\n", i, i, i, 0x18+16*i)
	}
	return fmt.Sprintf(ncclWell, &devices, wrong, rate)
}

// brief is "VERDICT NAME PART: READING (want THRESHOLD)".
func brief(checks []acceptance.Check) []string {
	var out []string
	for _, c := range checks {
		out = append(out, fmt.Sprintf("%s %s %s: %s (want %s)", c.Verdict, strings.TrimPrefix(c.Name, "burn-in.also."), c.Part, c.Reading, c.Threshold))
	}
	return out
}

func TestAlso(t *testing.T) {
	const pass, end = " (want Pass, in its own words)", " (want carried out to its end)"
	tests := []struct {
		name, program string
		out           string
		ended         error
		device        string
		want          []string
	}{
		{"absent", "dcgmi:1", "", &exec.Error{Name: "dcgmi", Err: exec.ErrNotFound}, "", []string{"not-run dcgmi GPUs: dcgmi is not on this node" + end}},
		{"DCGM 4", "dcgmi:3", dcgm4, errors.New("exit status 226"), "", []string{
			"pass dcgmi GPUs: dcgmi 4.2.3, 4 results" + end,
			"pass dcgmi.software GPUs: Pass; 2 of 2 results" + pass,
			"fail dcgmi.memory GPU 1, as dcgmi counts: Fail; 2 double-bit ECC errors GPU 1" + pass,
			"pass dcgmi.memory GPUs: Pass; 1 of 2 results" + pass,
			"not-run dcgmi.eud GPUs: Skip; not installed" + pass}},
		{"DCGM 3: a warning is no pass", "dcgmi", dcgm3, nil, "", []string{
			"pass dcgmi GPUs: dcgmi 3.3.9, 2 results" + end,
			"not-run dcgmi.pcie GPU 1, as dcgmi counts: Warn; replays" + pass,
			"pass dcgmi.pcie GPUs: Pass; 1 of 2 results" + pass}},
		{"DCGM without its service", "dcgmi", `{"DCGM Diagnostic": {"runtime_error": "unable to connect to nv-hostengine"}}`, nil, "", []string{
			"not-run dcgmi GPUs: what it printed is no result: unable to connect to nv-hostengine" + end}},
		{"DCGM 4 that ends badly with nothing failed", "dcgmi", strings.ReplaceAll(dcgm4, `"Fail"`, `"Pass"`), errors.New("dcgmi: exit status 1"), "", []string{
			"not-run dcgmi GPUs: dcgmi: exit status 1, though nothing that it tells has failed" + end,
			"pass dcgmi.software GPUs: Pass; 2 of 2 results" + pass,
			"pass dcgmi.memory GPUs: Pass; 2 of 2 results" + pass,
			"not-run dcgmi.eud GPUs: Skip; not installed" + pass}},
		{"empty", "dcgmi", "", errors.New("dcgmi: it was not done after 5m0s"), "", []string{"not-run dcgmi GPUs: dcgmi: it was not done after 5m0s" + end}},
		{"no test", "dcgmi", `{"DCGM Diagnostic": {}}`, nil, "", []string{"not-run dcgmi GPUs: no result is in what it printed" + end}},
		{"a slow host copy", "nvbandwidth", nvbandwidthWell, nil, "NVIDIA H200", []string{
			"pass nvbandwidth GPUs: nvbandwidth v0.8, 5 results" + end,
			"pass nvbandwidth.h2d GPU 0, as CUDA counts in PCI order: 55.31 GB/s by nvbandwidth v0.8 (want at least 48 GB/s)",
			"fail nvbandwidth.h2d GPU 1, as CUDA counts in PCI order: 31.2 GB/s by nvbandwidth v0.8 (want at least 48 GB/s)",
			"pass nvbandwidth.p2p GPU 0, as CUDA counts in PCI order: 392.1 GB/s by nvbandwidth v0.8 (want at least 335 GB/s)",
			"pass nvbandwidth.p2p GPU 1, as CUDA counts in PCI order: 391.7 GB/s by nvbandwidth v0.8 (want at least 335 GB/s)",
			"not-run nvbandwidth.d2h GPUs: Waived" + pass}},
		{"no rate", "nvbandwidth", strings.Replace(nvbandwidthWell, `"31.2"`, `"nan"`, 1), nil, "NVIDIA H200", []string{
			"not-run nvbandwidth GPUs: what it printed is no result: host_to_device_memcpy_ce: \"nan\" is no rate" + end}},
		{"a device without a floor", "nvbandwidth", `{"nvbandwidth": {"testcases": [{"name": "host_to_device_memcpy_ce", "status": "Passed", "bandwidth_matrix": [["12"]]}]}}`, nil, "NVIDIA H200 NVL", []string{
			"pass nvbandwidth GPUs: nvbandwidth, 1 results" + end,
			"not-applicable nvbandwidth.h2d GPU 0, as CUDA counts in PCI order: 12 GB/s by nvbandwidth (want none known for NVIDIA H200 NVL)"}},
		{"NCCL well", "nccl", nccl(8, "0", "478.775"), nil, "", []string{
			"pass nccl GPUs: all_reduce_perf (nccl-tests 2.17.1, NCCL 22805), 2 results" + end,
			"pass nccl.exact GPUs: OK; 0 values out of bounds" + pass,
			"pass nccl.all-reduce GPUs: 478.8 GB/s by all_reduce_perf (nccl-tests 2.17.1, NCCL 22805); over 8 GPUs (want at least 431 GB/s)"}},
		{"NCCL too slow, and wrong", "nccl", nccl(8, "7", "312.5"), nil, "", []string{
			"pass nccl GPUs: all_reduce_perf (nccl-tests 2.17.1, NCCL 22805), 2 results" + end,
			"fail nccl.exact GPUs: OK; 7 values wrong" + pass,
			"fail nccl.all-reduce GPUs: 312.5 GB/s by all_reduce_perf (nccl-tests 2.17.1, NCCL 22805); over 8 GPUs (want at least 431 GB/s)"}},
		{"NCCL unchecked, on four", "nccl", nccl(4, "N/A", "400"), nil, "", []string{
			"pass nccl GPUs: all_reduce_perf (nccl-tests 2.17.1, NCCL 22805), 2 results" + end,
			"not-run nccl.exact GPUs: OK; its results were not checked" + pass,
			"not-applicable nccl.all-reduce GPUs: 400 GB/s; over 4 GPUs; a floor is known for 8" + pass}},
		{"NCCL that broke off", "nccl", strings.Split(nccl(8, "0", "1"), "# Out of")[0], nil, "", []string{
			"not-run nccl GPUs: what it printed is no result: its summary is not there: it did not come to its end" + end}},
		{"0 GB/s", "nccl", nccl(8, "0", "0"), nil, "", []string{
			"pass nccl GPUs: all_reduce_perf (nccl-tests 2.17.1, NCCL 22805), 2 results" + end,
			"pass nccl.exact GPUs: OK; 0 values out of bounds" + pass,
			"fail nccl.all-reduce GPUs: 0 GB/s by all_reduce_perf (nccl-tests 2.17.1, NCCL 22805); over 8 GPUs (want at least 431 GB/s)"}},
	}
	for _, tt := range tests {
		a, err := ParseAlso(tt.program, 8)
		if err != nil {
			t.Fatal(err)
		}
		checks := a[0].Judge([]byte(tt.out), tt.ended, tt.device)
		if diff := cmp.Diff(tt.want, brief(checks)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		for _, c := range checks {
			if c.Source == "" || c.Part == "" || c.Reading == "" {
				t.Errorf("%s: lacks something: %+v", tt.name, c)
			}
		}
	}
}

func TestParseAlso(t *testing.T) {
	got, err := ParseAlso("dcgmi:3, nccl,nvbandwidth", 8)
	if err != nil || len(got) != 3 || strings.Join(got[0].Command, " ") != "dcgmi diag -r 3 -j" || !strings.HasSuffix(strings.Join(got[1].Command, " "), "-g 8") {
		t.Errorf("%+v, %v", got, err)
	}
	for _, name := range AlsoNames() {
		if a, err := ParseAlso(name, 0); err != nil || len(a) != 1 || a[0].Limit <= 0 || a[0].read == nil {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
	for _, list := range []string{"dcgmi:4", "gpu-burn", "nccl,", "nccl:1"} {
		if a, err := ParseAlso(list, 8); err == nil {
			t.Errorf("%s: %+v", list, a)
		}
	}
}

// Whatever another program prints, nothing of it passes without a name, a part
// and a reading, and nothing panics.
func FuzzAlso(f *testing.F) {
	for _, seed := range []string{dcgm4, dcgm3, nvbandwidthWell, nccl(8, "0", "478.7"), nccl(4, "N/A", "1e309"), "{", `{"nvbandwidth":{"testcases":[{"status":"Passed","bandwidth_matrix":[[]]}]}}`} {
		f.Add([]byte(seed))
	}
	programs, err := ParseAlso("dcgmi,nvbandwidth,nccl", 8)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		for _, p := range programs {
			checks := p.Judge(out, nil, "NVIDIA H200")
			if len(checks) == 0 || len(checks) == 1 && checks[0].Verdict == acceptance.Pass {
				t.Fatalf("%s: %+v of %q", p.Name, checks, out)
			}
			for _, c := range checks {
				if c.Name == "" || c.Part == "" || c.Reading == "" || c.Verdict == "" {
					t.Fatalf("%s: %+v of %q", p.Name, c, out)
				}
			}
		}
	})
}
