// Command generate writes the asset lists of the examples: a row a node, with
// serial numbers, MAC addresses and addresses that are made up and always the
// same. A site has its own list from its vendor.
package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"log"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
)

//go:generate go run . ..

// list is the nodes of one class of one example.
type list struct {
	class  string // written where the example has more than one
	host   string // pattern of names, from 1
	rack   string // pattern of rack names, from 1
	nodes  int
	inRack int // nodes in a rack
	bottom int // lowest unit used; 0: nodes have no unit
	units  int // that a node takes
	serial string
}

// example is a directory with one assets.csv.
type example struct {
	dir       string
	site      byte // tells the MAC addresses of the examples apart
	oob, boot string
	lists     []list
}

var examples = []example{
	{dir: "abci3", site: 3, oob: "10.20.0.10", boot: "10.10.0.10", lists: []list{
		{host: "hnode%03d", rack: "c%03d", nodes: 766, inRack: 4, bottom: 1, units: 5, serial: "ABCI3-H-%04d"},
	}},
	{dir: "kisti6", site: 6, oob: "10.20.0.10", boot: "10.10.0.10", lists: []list{
		{class: "gh200x4", host: "gh%04d", rack: "x%02d", nodes: 2084, inRack: 128, serial: "KISTI6-G-%04d"},
		{class: "h200x8", host: "hg%02d", rack: "h%02d", nodes: 20, inRack: 4, bottom: 1, units: 5, serial: "KISTI6-H-%04d"},
	}},
	{dir: "korea-h200", site: 7, oob: "10.20.0.10", boot: "10.10.0.10", lists: []list{
		{host: "gpu%03d", rack: "g%02d", nodes: 255, inRack: 4, bottom: 1, units: 8, serial: "KR-H200-%04d"},
	}},
	{dir: "superpod-h200", site: 8, oob: "10.20.0.10", boot: "10.10.0.10", lists: []list{
		{host: "dgx-%03d", rack: "d%02d", nodes: 127, inRack: 4, bottom: 1, units: 8, serial: "DGXH200-%04d"},
	}},
	{dir: "sakuraone", site: 9, oob: "10.20.0.10", boot: "10.10.0.10", lists: []list{
		{host: "c%03d", rack: "s%02d", nodes: 100, inRack: 4, bottom: 1, units: 8, serial: "SAKURA-%04d"},
	}},
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: generate EXAMPLES-DIRECTORY")
	}
	for _, e := range examples {
		text, err := e.assets()
		if err == nil {
			err = os.WriteFile(filepath.Join(os.Args[1], e.dir, "assets.csv"), text, 0o644)
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}

// assets is the CSV of an example.
func (e example) assets() ([]byte, error) {
	header := []string{"hostname", "rack", "unit", "serial", "bmc", "mac", "ip"}
	classes := len(e.lists) > 1
	if classes {
		header = append(header, "class")
	}
	oob, err := netip.ParseAddr(e.oob)
	if err != nil {
		return nil, err
	}
	boot, err := netip.ParseAddr(e.boot)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	rows := [][]string{header}
	seen := 0
	for _, l := range e.lists {
		for i := range l.nodes {
			seen++
			oob, boot = oob.Next(), boot.Next()
			unit := ""
			if l.bottom > 0 {
				unit = strconv.Itoa(l.bottom + i%l.inRack*l.units)
			}
			row := []string{
				fmt.Sprintf(l.host, i+1), fmt.Sprintf(l.rack, i/l.inRack+1), unit, fmt.Sprintf(l.serial, i+1),
				oob.String(), fmt.Sprintf("02:f1:%02x:00:%02x:%02x", e.site, seen>>8, seen&0xff), boot.String(),
			}
			if classes {
				row = append(row, l.class)
			}
			rows = append(rows, row)
		}
	}
	if err := w.WriteAll(rows); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
