package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"firstlight/images/vm"
	"firstlight/inventory"
	"firstlight/provision"
)

// enteredEnv marks a process that was started inside the lab's namespace.
const enteredEnv = "FIRSTLIGHT_IN_LAB"

func (a *app) labCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "lab",
		Short: "Run the nodes of an inventory as virtual machines, and its fabric as a simulation",
		Long: `Run the nodes of an inventory's lab block as QEMU machines with UEFI firmware,
each with a BMC that answers IPMI, on bridges inside a network namespace of
their own. Nothing of the host's network is touched. Needs root.

The InfiniBand fabric of any inventory is simulated by firstlight lab fabric, which
needs neither a lab block nor root.`,
		Example: `  firstlight lab up examples/two-node-lab
  firstlight apply examples/two-node-lab
  firstlight lab exec examples/two-node-lab -- ipmitool -I lanplus -C 17 -H 10.20.0.11 -U admin -P lab-only power status
  firstlight lab down examples/two-node-lab
  firstlight lab fabric examples/superpod-h200`,
	}
	c.AddCommand(a.labUpCommand(), a.labDownCommand(), a.labStatusCommand(), a.labExecCommand(), a.labSuperviseCommand(), a.labFabricCommand())
	return c
}

func (a *app) labUpCommand() *cobra.Command {
	var foreground bool
	c := &cobra.Command{
		Use:   "up [DIR]",
		Short: "Make the lab: powered-off machines whose BMCs answer",
		Long:  "Make the lab: powered-off machines whose BMCs answer. What a crashed lab left behind is cleaned up first. With -foreground it stays until Ctrl-C, which leaves nothing behind.",
		Example: `  firstlight lab up examples/two-node-lab
  firstlight lab up -foreground examples/two-node-lab`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.loadLab(dirArg(args, 0))
			if err == nil {
				err = s.labSpeaks()
			}
			if err != nil {
				return err
			}
			if foreground {
				ctx, cancel := context.WithCancelCause(c.Context())
				defer cancel(nil)
				return a.superviseLab(ctx, s, func() {
					// Not sooner: the records may be of the machines of a lab that
					// is up already.
					if err := s.forgetAll(ctx); err != nil {
						cancel(err)
						return
					}
					fmt.Fprintln(a.stdout, "lab", s.Cluster.Lab.Name, "is up; Ctrl-C ends it")
				})
			}
			return a.labUp(c.Context(), s, dirArg(args, 0))
		},
	}
	a.inventoryFlags(c)
	c.Flags().BoolVar(&foreground, "foreground", false, "stay, and end the lab on Ctrl-C")
	return c
}

// loadLab reads an inventory that has a lab block.
func (a *app) loadLab(dir string) (*site, error) {
	s, err := a.load(dir)
	if err != nil {
		return nil, err
	}
	if s.Cluster.Lab == nil {
		return nil, fmt.Errorf("the inventory in %s has no lab block: its nodes are metal", dir)
	}
	return s, nil
}

// labSpeaks refuses a lab whose BMCs would not answer as they are declared to.
func (s *site) labSpeaks() error {
	for _, n := range s.Cluster.Nodes {
		if b := n.BMC.By("redfish"); b != nil {
			return fmt.Errorf("%s: its BMC is declared to speak %s (%s), and those of a lab's machines speak ipmi only: declare that",
				n.Name, b.Protocol, s.Cluster.DeclaredAt(b.Range))
		}
	}
	return nil
}

// labUp starts the supervisor as a process of its own and waits until it says
// that it is ready, or why not.
func (a *app) labUp(ctx context.Context, s *site, dir string) error {
	state, err := s.mkdir("lab")
	if err != nil {
		return err
	}
	logName := filepath.Join(state, "supervisor.log")
	log, err := os.OpenFile(logName, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	told, tell, err := os.Pipe()
	if err != nil {
		return err
	}
	defer told.Close()
	args := []string{"lab", "supervise"}
	for _, v := range a.varFiles {
		args = append(args, "--var-file", v)
	}
	cmd := exec.Command("/proc/self/exe", append(args, dir)...)
	// A -var may be a secret: it travels in the environment, never in argv.
	cmd.Env = os.Environ()
	for _, v := range a.vars {
		cmd.Env = append(cmd.Env, "FIRSTLIGHT_VAR_"+v)
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{tell}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		tell.Close()
		return err
	}
	tell.Close()
	answer := make(chan string, 1)
	go func() { // ends when the supervisor closes its end
		line, _ := bufio.NewReader(told).ReadString('\n')
		answer <- line
	}()
	select {
	case line := <-answer:
		if strings.TrimSpace(line) == "ready" {
			_ = cmd.Process.Release()
			if err := s.forgetAll(ctx); err != nil {
				return err
			}
			return a.printLab(ctx, s)
		}
		_ = cmd.Wait()
		said, _ := os.ReadFile(logName)
		return fmt.Errorf("lab %s did not come up: %s", s.Cluster.Lab.Name, strings.TrimSpace(strings.ReplaceAll(string(said), "firstlight: ", "")))
	case <-ctx.Done():
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		return ctx.Err()
	}
}

// forgetAll closes the records of all nodes: a lab that comes up has new
// machines, and what was proven of the ones before says nothing about them.
func (s *site) forgetAll(ctx context.Context) error {
	known, err := s.known(ctx)
	if err != nil || len(known.Nodes) == 0 {
		return err
	}
	j, unlock, err := s.openLocked(ctx, "lab up")
	if err != nil {
		return err
	}
	defer j.Close()
	defer unlock()
	data, err := json.Marshal(provision.ReasonData{Reason: "the lab came up anew"})
	if err != nil {
		return err
	}
	var events []provision.Event
	for name := range known.Nodes {
		events = append(events, provision.Event{Time: time.Now().UTC(), Node: name, Kind: provision.EventForget, Data: data})
	}
	slices.SortFunc(events, func(x, y provision.Event) int { return strings.Compare(x.Node, y.Node) })
	_, err = j.Append(ctx, known.Serial, events...)
	return err
}

// labSuperviseCommand is what labUp starts; nobody types it.
func (a *app) labSuperviseCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "supervise DIR", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.loadLab(args[0])
			if err != nil {
				return err
			}
			return a.superviseLab(c.Context(), s, func() {
				tell := os.NewFile(3, "ready")
				fmt.Fprintln(tell, "ready")
				tell.Close()
			})
		},
	}
	a.inventoryFlags(c)
	return c
}

func (a *app) superviseLab(ctx context.Context, s *site, ready func()) error {
	lab, err := a.labOf(s)
	if err != nil {
		return err
	}
	return lab.Supervise(ctx, ready)
}

// labOf makes the machines that the inventory's lab block describes: as
// declared, but for what a machine block changes.
func (a *app) labOf(s *site) (*vm.Lab, error) {
	c := s.Cluster
	logs, err := s.mkdir("logs", "console")
	if err != nil {
		return nil, err
	}
	lab := &vm.Lab{Name: c.Lab.Name, Dir: s.path("lab", "machines"), Logs: logs, Capture: s.path("lab", "boot.pcap"),
		Log: slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	for _, n := range c.Networks {
		if n.Interface != "" {
			lab.Networks = append(lab.Networks, vm.Network{Name: n.Name, Interface: n.Interface, Address: netip.PrefixFrom(n.Address, n.CIDR.Bits())})
		}
		if n.DHCP != "" && n.Interface != "" {
			lab.CaptureNetwork = n.Name
		}
	}
	slices.SortFunc(lab.Networks, func(x, y vm.Network) int { return strings.Compare(x.Name, y.Name) })
	known, err := s.credentials()
	if err != nil {
		return nil, err
	}
	for _, n := range c.Nodes {
		m := machineOf(c.Lab, n)
		if n.BMC != nil && n.BMC.Credential != nil && m.BMC.Password == "" {
			password, err := known.secret(n, n.BMC)
			var refused *provision.Refused
			if err != nil && !(errors.As(err, &refused) && refused.Person) { // one that is not set is no obstacle to a lab
				return nil, err
			}
			m.BMC.Password = password.Reveal()
		}
		lab.Machines = append(lab.Machines, m)
	}
	return lab, nil
}

func machineOf(lab *inventory.Lab, n *inventory.Node) vm.Machine {
	m := vm.Machine{Name: n.Name, Serial: n.Serial, CPUs: lab.CPUs, MemoryBytes: int64(lab.Memory.Bytes)}
	if h := n.Hardware; h != nil {
		m.Manufacturer, m.Product = h.Vendor, h.Product
		if h.CPU != nil {
			m.Sockets = h.CPU.Sockets
			if m.CPUs == 0 {
				m.CPUs = h.CPU.Cores
			}
		}
		if h.Memory != nil {
			m.DIMMs = h.Memory.DIMMs
			if m.MemoryBytes == 0 {
				m.MemoryBytes = int64(h.Memory.Total.Bytes)
			}
		}
		for _, d := range h.Disks {
			for i := range max(d.Count, 1) {
				name := fmt.Sprintf("%s%d", d.Name, i)
				m.Disks = append(m.Disks, vm.Disk{Name: name, Bytes: int64(d.Size.Bytes), Serial: fmt.Sprintf("FL%s%s", n.Name, name)})
			}
		}
	}
	for _, nic := range n.NICs {
		if nic.Network != nil {
			m.NICs = append(m.NICs, vm.NIC{MAC: nic.MAC, Network: nic.Network.Name})
		}
	}
	if n.BMC != nil && n.BMC.Credential != nil {
		m.BMC = vm.BMC{Address: n.BMC.Address, Username: n.BMC.Credential.Username}
	}
	differ(&m, lab.Machines[n.Name])
	return m
}

// differ makes a machine other than it is declared: a lab's way to be faulty.
func differ(m *vm.Machine, is *inventory.Machine) {
	if is == nil {
		return
	}
	if is.Serial != "" {
		m.Serial = is.Serial
	}
	if is.MAC != nil && len(m.NICs) > 0 {
		m.NICs[0].MAC = is.MAC
	}
	if is.Disks != nil {
		m.Disks = m.Disks[:min(*is.Disks, len(m.Disks))]
	}
	if is.Memory.Bytes != 0 {
		m.MemoryBytes = int64(is.Memory.Bytes)
	}
	if is.BMCPassword != "" {
		m.BMC.Password = is.BMCPassword.Reveal()
	}
	m.Faults = is.Faults
}

func (a *app) labDownCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "down [DIR]", Short: "End the lab and leave nothing behind",
		Example: "  firstlight lab down examples/two-node-lab",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.loadLab(dirArg(args, 0))
			if err != nil {
				return err
			}
			if err := vm.Down(c.Context(), s.Cluster.Lab.Name); err != nil {
				return err
			}
			if a.json {
				return printJSON(a.stdout, map[string]string{"lab": s.Cluster.Lab.Name, "state": "down"})
			}
			fmt.Fprintf(a.stdout, "lab %s is down\n", s.Cluster.Lab.Name)
			return nil
		},
	}
	a.inventoryFlags(c)
	return c
}

func (a *app) labStatusCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "status [DIR]", Short: "Show the lab's machines",
		Example: "  firstlight lab status examples/two-node-lab",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.loadLab(dirArg(args, 0))
			if err != nil {
				return err
			}
			return a.printLab(c.Context(), s)
		},
	}
	a.inventoryFlags(c)
	return c
}

func (a *app) printLab(ctx context.Context, s *site) error {
	st, err := vm.Status(ctx, s.Cluster.Lab.Name)
	if err != nil {
		return s.orRunLabUp(err)
	}
	if a.json {
		return printJSON(a.stdout, st)
	}
	fmt.Fprintf(a.stdout, "lab %s is up (%s, namespace %s)\n\n", st.Lab, st.Accel, st.Namespace)
	tw := tabwriter.NewWriter(a.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "MACHINE\tPOWER\tUP\tBMC\tCONSOLE LOG")
	for _, m := range st.Machines {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", m.Name, m.Power, about(time.Duration(m.UptimeS*float64(time.Second))), m.BMC, m.ConsoleLog)
	}
	return tw.Flush()
}

func (a *app) labExecCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "exec DIR -- COMMAND [ARG...]", Short: "Run a command inside the lab's network",
		Example: `  firstlight lab exec examples/two-node-lab -- ip address
  firstlight lab exec examples/two-node-lab -- ipmitool -I lanplus -C 17 -H 10.20.0.11 -U admin -P lab-only chassis status`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := a.loadLab(args[0])
			if err != nil {
				return err
			}
			program, err := exec.LookPath(args[1])
			if err != nil {
				return err
			}
			if err := vm.Enter(s.Cluster.Lab.Name); err != nil {
				return err
			}
			return syscall.Exec(program, args[1:], append(os.Environ(), enteredEnv+"=1"))
		},
	}
	a.inventoryFlags(c)
	return c
}

// labIsUp asks for the inventory's lab, where it has one.
func (a *app) labIsUp(ctx context.Context, s *site) error {
	if s.Cluster.Lab == nil {
		return nil
	}
	_, err := vm.Status(ctx, s.Cluster.Lab.Name)
	return s.orRunLabUp(err)
}

// orRunLabUp says what to run where a lab is not up.
func (s *site) orRunLabUp(err error) error {
	if !errors.Is(err, vm.ErrNotUp) {
		return err
	}
	return fmt.Errorf("lab %s is not up; first run: firstlight lab up %s", s.Cluster.Lab.Name, nearby(s.Cluster.Dir))
}

// nearby is a path as it would be typed here.
func nearby(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(here, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return path
	}
	return rel
}

// enterLab starts this program anew inside the namespace of the inventory's
// lab, where its provisioning and out-of-band networks are. On metal, or when
// inside already, it does nothing.
func (a *app) enterLab(s *site) error {
	if s.Cluster.Lab == nil || a.entered {
		return nil
	}
	if err := vm.Enter(s.Cluster.Lab.Name); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), enteredEnv+"=1"))
}
