package kubelet

import (
	"net"
	"slices"
	"strconv"
	"strings"
)

// An addressFlag is a flag of istiod that names where it listens.
type addressFlag struct {
	name        string
	defaultPort int32
	portOnly    bool // the value is a port, not an address
}

var addressFlags = []addressFlag{
	{name: "httpAddr", defaultPort: 8080},
	{name: "httpsAddr", defaultPort: 15017},
	{name: "grpcAddr", defaultPort: 15010},
	{name: "secureGRPCAddr", defaultPort: 15012},
	{name: "monitoringAddr", defaultPort: 15014},
	{name: "ctrlz_port", defaultPort: 9876, portOnly: true},
}

// containerPorts returns what istiod with these arguments listens on: a port for
// each flag of addressFlags, in their order; 0 where the flag turns it off.
func containerPorts(args []string) []int32 {
	ports := make([]int32, len(addressFlags))
	for i, flag := range addressFlags {
		ports[i] = flag.defaultPort
		value, given := flagValue(args, flag.name)
		if !given {
			continue
		}
		if _, port, err := net.SplitHostPort(value); err == nil {
			value = port
		}
		number, err := strconv.ParseInt(value, 10, 32)
		if err != nil {
			number = 0
		}
		ports[i] = int32(number)
	}
	return ports
}

// localArgs is args with the local addresses in place: local maps container ports
// to numbers of ports of 127.0.0.1. Flags go last, where they win over earlier ones.
func localArgs(args []string, local map[int32]string) []string {
	result := slices.Clone(args)
	for i, port := range containerPorts(args) {
		address, ok := local[port]
		if !ok {
			continue
		}
		if !addressFlags[i].portOnly {
			address = net.JoinHostPort("127.0.0.1", address)
		}
		result = append(result, "--"+addressFlags[i].name+"="+address)
	}
	return result
}

// flagValue finds --name=value and --name value; the last one counts.
func flagValue(args []string, name string) (value string, given bool) {
	for i, arg := range args {
		if after, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
			value, given = after, true
		} else if arg == "--"+name && i+1 < len(args) {
			value, given = args[i+1], true
		}
	}
	return value, given
}
