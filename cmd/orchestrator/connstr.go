package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/multicoord/multicoord/orchestrator/cluster"
	"github.com/multicoord/multicoord/orchestrator/secret"
)

// passfileName is the libpq password file in the data folder to which printed connection strings point.
const passfileName = "client.pgpass"

// readOnlyOptions make every transaction of a session read-only unless it says otherwise. Where its statements run is
// the router's business: a transaction goes to a standby only when its BEGIN says READ ONLY.
const readOnlyOptions = "-c default_transaction_read_only=on"

// connection is what a client needs to connect with libpq.
type connection struct {
	Hosts    []string `json:"hosts"`
	Ports    []int    `json:"ports"`
	Database string   `json:"dbname"`
	User     string   `json:"user"`
	Passfile string   `json:"passfile,omitempty"`
	Password string   `json:"password,omitempty"`
	// Target is libpq's target_session_attrs, Options the server settings of the session.
	Target  string `json:"target_session_attrs,omitempty"`
	Options string `json:"options,omitempty"`
}

// connstrOptions are the flags that choose a connection.
type connstrOptions struct {
	readOnly, direct, admin bool
	group                   string
	user, database          string
}

func (o *connstrOptions) add(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVar(&o.readOnly, "read-only", false, "for reading only: nothing can be written; statements that surely only read, and transactions begun with BEGIN READ ONLY, go to standbys that are fresh enough")
	f.BoolVar(&o.direct, "direct", false, "to the servers themselves, past the router")
	f.BoolVar(&o.admin, "admin", false, "to the router's admin console, for SHOW and RELOAD")
	f.StringVar(&o.group, "group", "0", "group whose servers are meant, with --direct")
	f.StringVar(&o.user, "user", secret.SuperuserRole, "role to connect as")
	f.StringVar(&o.database, "database", "", "database to connect to (default: that of the spec)")
	cmd.MarkFlagsMutuallyExclusive("admin", "direct")
	cmd.MarkFlagsMutuallyExclusive("admin", "read-only")
	complete(cmd, "user", cobra.NoFileCompletions)
	complete(cmd, "database", cobra.NoFileCompletions)
	complete(cmd, "group", a.completeFrom(groupNames))
}

func (o *connstrOptions) check(cmd *cobra.Command) error {
	if cmd.Flags().Changed("group") && !o.direct {
		return usagef("--group goes with --direct: the router chooses the group itself")
	}
	return nil
}

const connstrLong = `Prints a connection string that works as it is with psql and every other client of libpq. By
default it leads to the router; with --direct to the servers of a group themselves, from which libpq
picks the primary (or, with --read-only, a standby). The password is not in it: it is in a file
(passfile=…) that only the user who runs the cluster can read.`

func newConnstrCommand(a *app) *cobra.Command {
	var o connstrOptions
	var uri, showPassword bool
	cmd := &cobra.Command{
		Use:   "connstr",
		Short: "Print a connection string for clients",
		Long:  connstrLong,
		Example: `  psql "$(orchestrator connstr)"
  pgbench -i "$(orchestrator connstr)"
  orchestrator connstr --read-only --uri
  psql "$(orchestrator connstr --direct --group 1)"
  psql "$(orchestrator connstr --admin)" -c 'SHOW nodes'`,
		Args: noArgs,
	}
	o.add(a, cmd)
	cmd.Flags().BoolVar(&uri, "uri", false, "print a postgresql:// address instead of keywords")
	cmd.Flags().BoolVar(&showPassword, "show-password", false, "put the password into the string instead of the password file's name")
	out := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		h, err := a.openCluster(cmd.Context())
		if err != nil {
			return err
		}
		defer h.Close()
		c, err := a.connection(h, o, showPassword)
		if err != nil {
			return err
		}
		if out.value != outTable {
			return a.emit(out, struct {
				connection
				Conninfo string `json:"conninfo"`
				URI      string `json:"uri"`
			}{c, c.conninfo(), c.uri()}, nil)
		}
		text := c.conninfo()
		if uri {
			text = c.uri()
		}
		_, err = io.WriteString(a.stdout, text+"\n")
		return err
	}
	return cmd
}

// connection finds out how to connect. Without the password (no key file here, or another role) it still says
// where to; showPassword makes that an error.
func (a *app) connection(h *handle, o connstrOptions, showPassword bool) (connection, error) {
	spec, err := h.Spec()
	if err != nil {
		return connection{}, err
	}
	var c connection
	switch {
	case o.direct:
		group, err := findGroup(spec, o.group)
		if err != nil {
			return connection{}, err
		}
		c = directConnection(h.Snapshot, group, o.readOnly)
	case o.admin:
		c = a.routerConnection(h, spec.Router.Admin, func(r cluster.RouterStatus) string { return r.Admin })
	default:
		c = a.routerConnection(h, spec.Router.Listen, func(r cluster.RouterStatus) string { return r.Listen })
	}
	if len(c.Hosts) == 0 {
		return connection{}, errNoAddress
	}
	c.User, c.Database = o.user, spec.PostgreSQL.Database
	if o.database != "" {
		c.Database = o.database
	}
	if o.readOnly {
		c.Options = readOnlyOptions
	}
	switch err := a.addPassword(h, &c, showPassword); {
	case err != nil && showPassword:
		return connection{}, err
	case err != nil:
		fmt.Fprintf(a.stderr, "note: the string has no password: %v\n", err)
	}
	return c, nil
}

// addPassword puts the password, or the file with it, into c.
func (a *app) addPassword(h *handle, c *connection, show bool) error {
	if c.User != secret.SuperuserRole {
		return fmt.Errorf("only that of %s is known here, not that of %s", secret.SuperuserRole, c.User)
	}
	s, err := h.Secrets()
	if err != nil {
		return err
	}
	if show {
		c.Password = s.Superuser
		return nil
	}
	c.Passfile = filepath.Join(h.Dir, passfileName)
	return keepPassfile(h.Dir, s)
}

// keepPassfile writes the password file unless it is right already, so that looking needs no right to write.
func keepPassfile(dir string, s secret.Secrets) error {
	line, err := secret.PassfileEntry{User: secret.SuperuserRole, Password: s.Superuser}.Line()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, passfileName)
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm() == 0o600 {
		if have, err := os.ReadFile(path); err == nil && bytes.Equal(have, []byte(line)) {
			return nil
		}
	}
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return err
	}
	return writePassfile(dir, s)
}

// directConnection lists the group's servers, the primary first.
func directConnection(snap cluster.Snapshot, group int, readOnly bool) connection {
	g, _ := snap.Spec.GroupOf(group)
	nodes := slices.Clone(g.Nodes)
	primary := snap.Groups[group].Primary
	slices.SortStableFunc(nodes, func(x, y cluster.Node) int { return boolInt(y.Name == primary) - boolInt(x.Name == primary) })
	c := connection{Target: "read-write"}
	if readOnly {
		c.Target = "prefer-standby"
	}
	for _, n := range nodes {
		host, _ := snap.Spec.HostOf(n.Host)
		c.Hosts, c.Ports = append(c.Hosts, host.Address), append(c.Ports, n.Port)
	}
	return c
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// routerConnection lists one address of each router that is running, or else the one that the spec gives them.
func (a *app) routerConnection(h *handle, configured string, of func(cluster.RouterStatus) string) connection {
	var c connection
	everywhere := false
	for _, id := range slices.Sorted(maps.Keys(h.Snapshot.Routers)) {
		everywhere = c.addRouter(of(h.Snapshot.Routers[id])) || everywhere
	}
	if len(h.Snapshot.Routers) == 0 {
		everywhere = c.addRouter(configured)
		if !h.Local {
			fmt.Fprintln(a.stderr, "note: no router is running; this is the address that the spec gives it")
		}
	}
	if everywhere && !h.Local {
		fmt.Fprintln(a.stderr, "note: the router listens on every address of its host; elsewhere, put the host's name in place of "+loopback)
	}
	return c
}

// loopback is where a listener on every address of this host is reached.
const loopback = "127.0.0.1"

// addRouter adds a listener's address, unless it is off, and tells whether it is on every address of its host.
func (c *connection) addRouter(listen string) (everywhere bool) {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return false
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		host, everywhere = loopback, true
	}
	for i := range c.Hosts {
		if c.Hosts[i] == host && c.Ports[i] == n {
			return everywhere
		}
	}
	c.Hosts, c.Ports = append(c.Hosts, host), append(c.Ports, n)
	return everywhere
}

// routerConnstr is the string to the router of a cluster on this machine.
func routerConnstr(spec cluster.Spec, dir string) string {
	c := connection{Database: spec.PostgreSQL.Database, User: secret.SuperuserRole, Passfile: filepath.Join(dir, passfileName)}
	c.addRouter(spec.Router.Listen)
	return c.conninfo()
}

// pairs are libpq's keywords with their values, in the order of printing.
func (c connection) pairs() [][2]string {
	ports := make([]string, len(c.Ports))
	for i, p := range c.Ports {
		ports[i] = strconv.Itoa(p)
	}
	var out [][2]string
	for _, p := range [][2]string{
		{"host", strings.Join(c.Hosts, ",")},
		{"port", strings.Join(ports, ",")},
		{"dbname", c.Database},
		{"user", c.User},
		{"password", c.Password},
		{"passfile", c.Passfile},
		{"target_session_attrs", c.Target},
		{"options", c.Options},
	} {
		if p[1] != "" {
			out = append(out, p)
		}
	}
	return out
}

// conninfo gives the form of keywords (PostgreSQL documentation, "Keyword/Value Connection Strings").
func (c connection) conninfo() string {
	var words []string
	for _, p := range c.pairs() {
		v := p[1]
		if strings.ContainsAny(v, " '\\\t\n") {
			v = "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(v) + "'"
		}
		words = append(words, p[0]+"="+v)
	}
	return strings.Join(words, " ")
}

// uri gives the form of an address ("Connection URIs"). libpq does not take + for a blank.
func (c connection) uri() string {
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	var b strings.Builder
	b.WriteString("postgresql://" + escape(c.User))
	if c.Password != "" {
		b.WriteString(":" + escape(c.Password))
	}
	b.WriteByte('@')
	for i, host := range c.Hosts {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(net.JoinHostPort(host, strconv.Itoa(c.Ports[i])))
	}
	b.WriteString("/" + escape(c.Database))
	sep := byte('?')
	for _, p := range c.pairs() {
		switch p[0] {
		case "passfile", "target_session_attrs", "options":
			b.WriteByte(sep)
			b.WriteString(p[0] + "=" + escape(p[1]))
			sep = '&'
		}
	}
	return b.String()
}

// errNoAddress: the router, or its console, is switched off.
var errNoAddress = errors.New("no address is known to connect to: it is off in the spec (router.listen, router.admin)")
