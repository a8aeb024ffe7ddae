// Command eventissuer is the server: a gateway between an event backbone and the outside world, in one process with
// an embedded log, or as any number of stateless replicas before Kafka and Redis.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	standard "log" //nolint:depguard // only to silence it
	"log/slog"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/eventissuer/eventissuer/internal/version"
)

// cli is the command line.
type cli struct {
	Serve   serveCommand   `cmd:"" help:"Run the server until it is told to stop (SIGTERM, Ctrl-C). It drains first, and exits with 0."`
	Config  configCommand  `cmd:"" help:"Print the configuration that serve would run with, as a YAML file, without secrets."`
	Version versionCommand `cmd:"" help:"Print the version."`

	VersionFlag kong.VersionFlag `name:"version" env:"-" help:"Print the version."`
}

type serveCommand struct {
	Config `embed:""`
}

type configCommand struct {
	Config `embed:""`
}

type versionCommand struct{}

const description = `Event Issuer opens an event backbone to the outside world: publish CloudEvents over HTTP, read them live over SSE, WebSocket or NDJSON, and resume anywhere.

To see it: eventissuer serve --demo, then open http://127.0.0.1:8080/

Every setting can be given as a flag, as a variable (--data-dir is EVENTISSUER_DATA_DIR), or as a key of the YAML file that --config names (data-dir: …). A flag wins over a variable, a variable over the file.`

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// What the process exits with.
const (
	exitOK     = 0
	exitFailed = 1 // it could not start, or had to stop
	exitUsage  = 2 // flags, variables or the configuration file are wrong
)

// exited carries an exit code out of kong, which ends the process after --help.
type exited int

func run(args []string, stdout, stderr io.Writer) (code int) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exited)
			if !ok {
				panic(r)
			}
			code = int(e)
		}
	}()
	var c cli
	parser, err := newParser(&c, stdout, stderr)
	if err != nil {
		return complain(stderr, err, exitFailed)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(joinNegative(args))
	if err != nil {
		var inFile *fileError
		if errors.As(err, &inFile) {
			err = inFile
		}
		_ = complain(stderr, err, exitUsage)
		_, _ = fmt.Fprintln(stderr, "eventissuer serve --help explains the settings.")
		return exitUsage
	}
	for _, name := range strayVariables(command, os.Environ()) {
		_, _ = fmt.Fprintf(stderr, "eventissuer: the variable %s is no setting and changes nothing\n", name)
	}
	switch command.Command() {
	case "version":
		_, _ = fmt.Fprintln(stdout, "eventissuer", version.String())
	case "config":
		if err := printConfig(stdout, command); err != nil {
			return complain(stderr, err, exitFailed)
		}
	case "serve":
		limitMemory()
		log := newLogger(c.Serve.Config, stderr)
		// net/http writes there what endpoints send unasked, which may be anything.
		standard.SetOutput(io.Discard)
		ctx, stop := untilTold(context.Background())
		defer stop()
		go collectByNeed(ctx)
		if err := serve(ctx, c.Serve.Config, log, stderr, nil); err != nil {
			log.Error("the server stops", "error", err)
			return exitFailed
		}
	}
	return exitOK
}

// joinNegative makes "--flag -1" what kong reads, which takes a dash for the beginning of another flag.
func joinNegative(args []string) []string {
	var joined []string
	for _, arg := range args {
		if _, err := strconv.Atoi(arg); err == nil && arg[0] == '-' && len(joined) > 0 {
			if last := joined[len(joined)-1]; strings.HasPrefix(last, "--") && !strings.Contains(last, "=") {
				joined[len(joined)-1] = last + "=" + arg
				continue
			}
		}
		joined = append(joined, arg)
	}
	return joined
}

// strayVariables names the variables that look like settings and are none. They are no errors as keys of the file are:
// the environment is shared with others.
func strayVariables(command *kong.Context, environ []string) []string {
	known := map[string]bool{}
	if node := command.Selected(); node != nil {
		for _, flag := range node.Flags {
			for _, name := range flag.Envs {
				known[name] = true
			}
		}
	}
	var stray []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		// Kubernetes sets such variables for every service, and the tests theirs.
		if strings.HasPrefix(name, "EVENTISSUER_") && len(known) > 0 && !known[name] && !foreignVariable.MatchString(name) {
			stray = append(stray, name)
		}
	}
	slices.Sort(stray)
	return stray
}

// foreignVariable matches the names that Kubernetes gives (EVENTISSUER_SERVICE_HOST, EVENTISSUER_PORT_8080_TCP_ADDR), and
// those of tests.
var foreignVariable = regexp.MustCompile(`_SERVICE_(HOST|PORT.*)$|_PORT(_\d+_(TCP|UDP).*)?$|^EVENTISSUER_TEST_`)

// untilTold gives a context that ends with SIGTERM, or with Ctrl-C for the cause of errInterrupted. A second signal ends
// the process at once.
func untilTold(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case told := <-signals:
			signal.Stop(signals)
			if told == os.Interrupt {
				cancel(errInterrupted)
			}
			cancel(nil)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { signal.Stop(signals); cancel(nil); <-ended }
}

func newParser(c *cli, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("eventissuer"),
		kong.Description(description),
		kong.UsageOnError(),
		kong.Vars{"version": "eventissuer " + version.String()},
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.DefaultEnvars("EVENTISSUER"),
		kong.Resolvers(&yamlFile{}),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{
			{Key: "http", Title: "The HTTP side:"},
			{Key: "storage", Title: "Where events are kept:"},
			{Key: "push", Title: "Webhooks:"},
			{Key: "limits", Title: "Limits:"},
			{Key: "life", Title: "Life and log:"},
			{Key: "demo", Title: "The demo:"},
		}),
	)
}

func complain(w io.Writer, err error, code int) int {
	_, _ = fmt.Fprintln(w, "eventissuer:", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	return code
}

func newLogger(c Config, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // the flag's enum allows levels only
	}
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		options.ReplaceAttr = func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration {
				a.Value = slog.StringValue(a.Value.Duration().String()) // as in the text format, instead of nanoseconds without a unit
			}
			return a
		}
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

var errNoConfig = errors.New("no configuration to print")
