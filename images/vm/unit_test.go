package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firstlight/internal/refbmc"
)

func TestValidate(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(l *Lab)
		want  []string // in the error; empty: valid
	}{
		{"sound", func(*Lab) {}, nil},
		{"lab name", func(l *Lab) { l.Name = "a/b" }, []string{`lab name "a/b"`}},
		{"interface too long", func(l *Lab) { l.Networks[0].Interface = "provisioning-net" },
			[]string{`network provision: interface name "provisioning-net"`, "at most 15"}},
		{"loopback taken", func(l *Lab) { l.Networks[0].Interface = "lo" }, []string{`interface name "lo"`}},
		{"no address", func(l *Lab) { l.Networks[0].Address = netip.Prefix{} }, []string{"network provision: the controller's address"}},
		{"networks overlap", func(l *Lab) { l.Networks[1].Address = netip.MustParsePrefix("10.10.0.9/16") },
			[]string{"networks provision (10.10.0.0/24) and oob (10.10.0.0/16) overlap"}},
		{"same interface", func(l *Lab) { l.Networks[1].Interface = "br-prov" },
			[]string{"network oob: interface br-prov is already that of network provision"}},
		{"same MAC and BMC", func(l *Lab) {
			l.Machines[1].NICs[0].MAC = l.Machines[0].NICs[0].MAC
			l.Machines[1].BMC.Address = l.Machines[0].BMC.Address
		}, []string{"machine b: MAC 52:54:00:00:00:01 is already that of machine a", "machine b: address 10.20.0.11 is already that of machine a"}},
		{"same name", func(l *Lab) { l.Machines[1].Name = "a" }, []string{"machine a: name a is already that of machine a"}},
		{"BMC on the controller's address", func(l *Lab) { l.Machines[0].BMC.Address = netip.MustParseAddr("10.20.0.1") },
			[]string{"machine a: address 10.20.0.1 is already that of network oob"}},
		{"BMC nowhere", func(l *Lab) { l.Machines[0].BMC.Address = netip.MustParseAddr("10.30.0.1") },
			[]string{"machine a: BMC address 10.30.0.1 is in none of the lab's networks"}},
		{"unknown network", func(l *Lab) { l.Machines[0].NICs[0].Network = "storage" }, []string{`machine a: nic 0: the lab has no network "storage"`}},
		{"group MAC", func(l *Lab) { l.Machines[0].NICs[0].MAC = net.HardwareAddr{1, 0, 0, 0, 0, 1} }, []string{"machine a: nic 0: MAC 01:00:00:00:00:01"}},
		{"memory", func(l *Lab) { l.Machines[0].MemoryBytes = 64 << 20 }, []string{"machine a: memory of 64 MiB", "512 MiB"}},
		{"sockets", func(l *Lab) { l.Machines[0].Sockets = 4 }, []string{"machine a: 2 CPUs do not divide over 4 sockets"}},
		{"disk serial", func(l *Lab) { l.Machines[0].Disks[0].Serial = strings.Repeat("x", 21) }, []string{"machine a: disk scratch0: serial", "20 bytes"}},
		{"fault", func(l *Lab) { l.Machines[0].Faults = []string{"dead"} }, []string{`machine a: unknown fault "dead": want ignore-boot-override`}},
		{"socket path", func(l *Lab) { l.Name = strings.Repeat("n", 100) }, []string{"machine a: console socket", "shorten the lab's name"}},
		{"capture", func(l *Lab) { l.CaptureNetwork = "storage" }, []string{`capture of network "storage"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := testLab(t, "v", nil, nil)
			tt.spoil(l)
			err := l.Validate()
			l.Name = "never-up" // for the cleanup
			if (err == nil) != (len(tt.want) == 0) {
				t.Fatalf("Validate() = %v; want an error with %q", err, tt.want)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Validate() = %v; want %q in it", err, want)
				}
			}
		})
	}
}

// TestArguments holds the whole command line: any change of it is on purpose.
func TestArguments(t *testing.T) {
	m := &Machine{Name: "n1", Serial: "S,1", Product: "x1", Sockets: 2, CPUs: 4, MemoryBytes: 1 << 30, DIMMs: 1,
		Disks: []Disk{{Name: "d0", Bytes: 1 << 20, Serial: "D0"}, {Name: "d1", Bytes: 1 << 20}},
		NICs:  []NIC{{MAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}}, {MAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}}}}
	l := &Lab{Name: "lab", Dir: "/d,ir"}
	h := host{code: "/code.fd"}
	common := strings.Fields(`-name guest=firstlight-lab/n1 -machine q35,accel=tcg -cpu max -smp 4,sockets=2,cores=2,threads=1
		-m 1048576k -nodefaults -no-user-config -display none -vga none -action reboot=shutdown
		-drive if=pflash,format=raw,unit=0,readonly=on,file=/code.fd -drive if=pflash,format=raw,unit=1,file=/d,,ir/n1/firmware.fd
		-smbios type=1,manufacturer=firstlight,product=x1,serial=S,,1,uuid=UUID -chardev socket,id=qmp,fd=3 -mon chardev=qmp,mode=control
		-chardev socket,id=console,fd=4 -serial chardev:console -device virtio-rng-pci -fw_cfg name=opt/org.tianocore/IPv6PXESupport,string=n
		-device ipmi-bmc-sim,id=bmc,guid=UUID -device isa-ipmi-kcs,bmc=bmc -smbios file=/d,,ir/n1/dimm-0.bin`)
	disks := `-drive if=none,id=disk0,format=raw,discard=unmap,file=/d,,ir/n1/disk-d0.raw -device nvme,drive=disk0,serial=D0,bootindex=2
		-drive if=none,id=disk1,format=raw,discard=unmap,file=/d,,ir/n1/disk-d1.raw -device nvme,drive=disk1,serial=AUTO,bootindex=3`
	tests := map[string]string{
		"pxe": `-fw_cfg name=opt/org.tianocore/IPv4PXESupport,string=y
			-netdev tap,id=net0,fd=5 -device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,romfile=,bootindex=1
			-netdev tap,id=net1,fd=6 -device virtio-net-pci,netdev=net1,mac=02:00:00:00:00:02,romfile= ` + disks,
		"disk": `-fw_cfg name=opt/org.tianocore/IPv4PXESupport,string=n
			-netdev tap,id=net0,fd=5 -device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,romfile=
			-netdev tap,id=net1,fd=6 -device virtio-net-pci,netdev=net1,mac=02:00:00:00:00:02,romfile= ` + disks,
	}
	tests[""] = tests["disk"]
	for device, rest := range tests {
		want := append(append([]string{}, common...), strings.Fields(rest)...)
		for i := range want {
			want[i] = strings.ReplaceAll(want[i], "UUID", systemUUID("lab", m))
			want[i] = strings.ReplaceAll(want[i], "AUTO", diskSerial(m, m.Disks[1]))
		}
		got := h.arguments("lab", m, l.files(m), refbmc.Boot{Device: device})
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("arguments, boot %q (-want +got):\n%s", device, diff)
		}
	}
	m.Faults = []string{FaultDeadBMC}
	if got := h.arguments("lab", m, l.files(m), refbmc.Boot{}); strings.Contains(strings.Join(got, " "), "ipmi") {
		t.Errorf("arguments of a machine with a dead BMC = %q; want none in-band", got)
	}
	m.Disks = nil
	if got := h.arguments("lab", m, l.files(m), refbmc.Boot{}); !strings.Contains(strings.Join(got, " "), "ide-cd") {
		t.Errorf("arguments of a diskless machine = %q; want an empty drive to keep the firmware from the network", got)
	}
}

func TestProbeNamesPackages(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := probe(); err == nil || !strings.Contains(err.Error(), "apt-get install qemu-system-x86") {
		t.Errorf("probe() without qemu: %v; want the package's name", err)
	}
}

func TestSMBIOSDIMM(t *testing.T) {
	tests := []struct {
		n, count int
		total    int64
		size     []byte // at 0Ch, MiB; 7fff: in the extended size
		extended []byte // at 1Ch
	}{
		{0, 1, 1 << 30, []byte{0x00, 0x04}, []byte{0, 0, 0, 0}},
		{0, 3, 1 << 30, []byte{0x55, 0x01}, []byte{0, 0, 0, 0}},
		{2, 3, 1 << 30, []byte{0x56, 0x01}, []byte{0, 0, 0, 0}}, // the remainder
		{31, 32, 2 << 40, []byte{0xff, 0x7f}, []byte{0, 0, 1, 0}},
	}
	for _, tt := range tests {
		got := smbiosDIMM(tt.n, tt.count, tt.total)
		if got[0] != 17 || got[1] != 0x28 || !bytes.HasSuffix(got, []byte("\x00\x00")) {
			t.Errorf("smbiosDIMM(%d, %d, %d) = % x; want type 17, length 28h, two NULs at the end", tt.n, tt.count, tt.total, got)
		}
		if !bytes.Equal(got[0x0c:0x0e], tt.size) || !bytes.Equal(got[0x1c:0x20], tt.extended) {
			t.Errorf("smbiosDIMM(%d, %d, %d): size % x, extended % x; want % x, % x",
				tt.n, tt.count, tt.total, got[0x0c:0x0e], got[0x1c:0x20], tt.size, tt.extended)
		}
	}
}

// TestPcapIsReadByTcpdump has a foreign reader read what we write.
func TestPcapIsReadByTcpdump(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("needs tcpdump")
	}
	frame := make([]byte, 14+20+8+1400)
	copy(frame, "\xff\xff\xff\xff\xff\xff\x52\x54\x00\x00\x00\x01\x08\x00\x45\x00")
	frame[16], frame[17] = 0x05, 0x94 // total length 1428
	frame[22], frame[23] = 64, 17
	copy(frame[26:], []byte{10, 10, 0, 1, 10, 10, 0, 2, 0, 67, 0, 68, 0x05, 0x80})
	tcp := bytes.Clone(frame)
	tcp[23] = 6
	file := appendPcapPacket(appendPcapHeader(nil), time.Unix(1700000000, 123456000), frame)
	file = appendPcapPacket(file, time.Unix(1700000000, 0), tcp)
	if got, want := len(file), 24+16+len(frame)+16+snapTCP; got != want {
		t.Errorf("capture of one UDP and one TCP packet is %d bytes; want %d", got, want)
	}
	path := filepath.Join(t.TempDir(), "c.pcap")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tcpdump", "-tt", "-n", "-r", path, "udp").Output()
	if err != nil || !strings.HasPrefix(string(out), "1700000000.123456 IP 10.10.0.1.67 > 10.10.0.2.68") {
		t.Errorf("tcpdump -r = %q, %v; want our packet at its time", out, err)
	}
}

func TestConsole(t *testing.T) {
	dir := t.TempDir()
	c, err := newConsole(filepath.Join(dir, "socket"), filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	var clients []net.Conn
	for range 2 {
		conn, err := net.Dial("unix", filepath.Join(dir, "socket"))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		clients = append(clients, conn)
	}
	eventually(t, 5*time.Second, "both clients are known", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.clients) == 2
	})
	for boot := range 2 { // both clients stay over a power cycle
		ours, theirs, err := socketPair("test")
		if err != nil {
			t.Fatal(err)
		}
		done := c.attach(ours)
		said := fmt.Sprintf("boot %d\n", boot)
		theirs.WriteString(said)
		for i, conn := range clients {
			buf := make([]byte, len(said))
			if _, err := conn.Read(buf); err != nil || string(buf) != said {
				t.Errorf("client %d read %q, %v; want %q", i, buf, err, said)
			}
		}
		clients[boot].Write([]byte("y"))
		buf := make([]byte, 8)
		if n, err := theirs.Read(buf); err != nil || string(buf[:n]) != "y" {
			t.Errorf("machine read %q, %v; want what client %d typed", buf[:n], err, boot)
		}
		theirs.Close()
		<-done
	}
	// A client that never reads must not hold the machine up.
	ours, theirs, err := socketPair("test")
	if err != nil {
		t.Fatal(err)
	}
	done := c.attach(ours)
	theirs.Write(bytes.Repeat([]byte("x"), 4<<20))
	theirs.Close()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("a client that does not read stalls the machine")
	}
	if err := c.close(); err != nil {
		t.Error(err)
	}
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil || len(log) != len("boot 0\nboot 1\n")+4<<20 || !strings.HasPrefix(string(log), "boot 0\nboot 1\n") {
		t.Errorf("log of %d bytes, %v; want all that the machine wrote", len(log), err)
	}
}

func TestFailedUpLeavesNothing(t *testing.T) {
	needs(t, "qemu-system-x86_64")
	l := testLab(t, "fail", nil)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		spoil func(l *Lab)
		want  string
	}{
		{"logs", func(l *Lab) { l.Logs = filepath.Join(file, "logs") }, "not a directory"},
		{"capture", func(l *Lab) { l.Capture = filepath.Join(file, "x.pcap") }, "capture"},
		{"BMC password", func(l *Lab) { l.Machines[0].BMC.Password = strings.Repeat("p", 21) }, "machine a: BMC"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spoilt := *l
			spoilt.Machines = append([]Machine{}, l.Machines...)
			tt.spoil(&spoilt)
			err := spoilt.Supervise(context.Background(), func() { t.Error("ready") })
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), l.Name) {
				t.Errorf("Supervise() = %v; want an error that names the lab and %q", err, tt.want)
			}
			if got := left(t, l); got != nil {
				t.Errorf("left: %q", got)
			}
		})
	}
}

// TestQEMURefuses has QEMU end at once: the BMC must not say that the power is on.
func TestQEMURefuses(t *testing.T) {
	needs(t, "qemu-system-x86_64", "ipmitool")
	l := testLab(t, "refuse", nil)
	l.Machines[0].MemoryBytes = 1 << 50
	s := mustStart(t, l)
	args := []string{"-I", "lanplus", "-C", "17", "-H", "10.20.0.11", "-U", "admin", "-E", "power", "on"}
	out, err := tryInside(l, "ipmitool", args...)
	t.Logf("ipmitool power on: %q, %v", out, err)
	if got, want := ipmi(t, l, 0, "power", "status"), "Chassis Power is off\n"; got != want {
		t.Errorf("power status = %q; want %q", got, want)
	}
	s.interrupt(t)
	if log := s.output.String(); !strings.Contains(log, "qemu ended at once") || !strings.Contains(log, "pc.ram") {
		t.Errorf("log = %s; want QEMU's own words", log)
	}
}

// TestDownClearsHalfMadeNamespace: a crash between the two steps of `ip netns
// add` leaves a plain file.
func TestDownClearsHalfMadeNamespace(t *testing.T) {
	needs(t, "qemu-system-x86_64")
	l := testLab(t, "half")
	path := filepath.Join("/run/netns", Namespace(l.Name))
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if err := Down(context.Background(), l.Name); err != nil {
		t.Errorf("Down: %v", err)
	}
	if got := left(t, l); got != nil {
		t.Errorf("left: %q", got)
	}
}

func TestEnterNeedsLab(t *testing.T) {
	if err := Enter("never-up"); err == nil || !strings.Contains(err.Error(), "lab never-up is not up") {
		t.Errorf("Enter(never-up) = %v; want that it is not up", err)
	}
	if _, err := Status(context.Background(), "never-up"); !errors.Is(err, ErrNotUp) {
		t.Errorf("Status(never-up) = %v; want ErrNotUp", err)
	}
}

// TestIdentify: an id that is used again is another process.
func TestIdentify(t *testing.T) {
	me, err := identify(os.Getpid())
	if err != nil || !me.alive() {
		t.Fatalf("identify(own id) = %+v, %v; want alive", me, err)
	}
	me.Start--
	if me.alive() {
		t.Errorf("%+v of another start time is alive; want not", me)
	}
}
