// Package deptest checks what the compiler does not: which package may import
// which, and a few things that no package here may do.
package deptest

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A Rule says what the packages under one folder of the module's root may
// import. They may always import one another, and the standard library.
type Rule struct {
	Folder string
	// May lists the other folders whose packages they may import; "*" is any.
	May []string
	// NoModules: they may not import other modules.
	NoModules bool
	// Reflect: they may use reflection. Tests always may.
	Reflect bool
}

// A Violation is one broken rule.
type Violation struct {
	File    string // slash-separated, from the module's root
	Line    int
	Message string // what is wrong and how to mend it
}

func (v Violation) String() string { return fmt.Sprintf("%s:%d: %s", v.File, v.Line, v.Message) }

// Check reads every Go file of a module, those of all build tags and tests
// included, and returns what breaks the rules, in the order of the files.
// tree is the module's root and module its path. It fails where a file cannot
// be read or parsed.
func Check(tree fs.FS, module string, rules []Rule) ([]Violation, error) {
	c := &checker{module: module, rules: rules, files: token.NewFileSet()}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skip(tree, name)
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(c.files, name, text, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		c.imports(name, file)
		c.source(file)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("checking %s: %w", module, err)
	}
	return c.found, nil
}

// skip leaves out what the go command leaves out, and what git ignores.
func skip(tree fs.FS, name string) error {
	if name == "." {
		return nil
	}
	base := path.Base(name)
	if base == "testdata" || base[0] == '.' || base[0] == '_' || name == "bin" || name == "build" {
		return fs.SkipDir
	}
	if _, err := fs.Stat(tree, name+"/go.mod"); err == nil {
		return fs.SkipDir // a module of its own
	}
	return nil
}

type checker struct {
	module string
	rules  []Rule
	files  *token.FileSet
	found  []Violation
}

func (c *checker) add(at token.Pos, format string, args ...any) {
	p := c.files.Position(at)
	c.found = append(c.found, Violation{File: p.Filename, Line: p.Line, Message: fmt.Sprintf(format, args...)})
}

func folder(name string) string {
	first, _, _ := strings.Cut(name, "/")
	return first
}

func (c *checker) imports(name string, file *ast.File) {
	from := folder(path.Dir(name))
	i := slices.IndexFunc(c.rules, func(r Rule) bool { return r.Folder == from })
	if i < 0 {
		c.add(file.Package, "folder %s is in no rule: say in internal/deptest what it may import", from)
		return
	}
	rule := c.rules[i]
	for _, spec := range file.Imports {
		what, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			c.add(spec.Pos(), "import %s: %v", spec.Path.Value, err)
			continue
		}
		local, inModule := strings.CutPrefix(what, c.module+"/")
		if what == c.module {
			local, inModule = ".", true
		}
		first := folder(what)
		switch {
		case inModule:
			to := folder(local)
			if to != from && !slices.Contains(rule.May, to) && !slices.Contains(rule.May, "*") {
				c.add(spec.Pos(), "%s imports %s: the arrow %s → %s is not allowed, %s may import %s; "+
					"move what both need into one of these, or declare a small interface in %s that bmc fills",
					path.Dir(name), local, from, to, from, orNothing(rule.May), from)
			}
		case what == "C":
			c.add(spec.Pos(), "import \"C\": no cgo; use golang.org/x/sys or a package in Go")
		case what == "reflect" && !rule.Reflect && !strings.HasSuffix(name, "_test.go"):
			c.add(spec.Pos(), "import \"reflect\": no reflection outside tests and internal; use an interface, a type parameter or a table")
		case rule.NoModules && strings.Contains(first, "."):
			c.add(spec.Pos(), "%s imports %s: %s may import only the standard library and %s; put what needs this module under internal",
				path.Dir(name), what, from, orNothing(rule.May))
		}
	}
}

func orNothing(folders []string) string {
	if len(folders) == 0 {
		return "nothing else of this module"
	}
	return strings.Join(folders, ", ")
}

func (c *checker) source(file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				c.add(n.Pos(), "func init: nothing may happen at import; give main or New a call to make")
			}
		case *ast.CallExpr:
			c.shell(n.Args)
		case *ast.CompositeLit:
			c.shell(n.Elts)
		}
		return true
	})
}

var shells = []string{"sh", "bash", "ash", "dash", "zsh", "ksh"}

// shell finds a shell's name followed by -c, as arguments of a call (exec.Command)
// or as elements of a list (exec.Cmd's Args).
func (c *checker) shell(list []ast.Expr) {
	for i := 1; i < len(list); i++ {
		name, flag := literal(list[i-1]), literal(list[i])
		if slices.Contains(shells, path.Base(name)) && len(flag) >= 2 && flag[0] == '-' && flag[1] != '-' && strings.HasSuffix(flag, "c") {
			c.add(list[i-1].Pos(), "%s %s: no shell; run the program itself, with its arguments as a list", name, flag)
		}
	}
}

func literal(e ast.Expr) string {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		if s, err := strconv.Unquote(lit.Value); err == nil {
			return s
		}
	}
	return ""
}
