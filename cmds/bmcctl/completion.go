package main

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// completeCommand is what the shells' scripts call with the words of the line up to
// the cursor; the last one may be empty. It prints what the last word may become,
// a line each, with a tab and a description behind it where there is one; fileMark
// alone asks for names of files.
const (
	completeCommand = "__complete"
	fileMark        = ":file"
)

func completionCommands() []command {
	return []command{{name: "completion", args: "bash|zsh|fish", help: "print a script that teaches the shell to complete bmcctl's commands", setup: plain(completion)}}
}

func completion(_ context.Context, p *program, args []string) error {
	scripts := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}
	script, found := scripts[args[0]]
	if !found {
		return usagef("%q: want bash, zsh or fish", args[0])
	}
	_, err := fmt.Fprint(p.stdout, script)
	return err
}

const bashScript = `# bmcctl completion bash > /etc/bash_completion.d/bmcctl
_bmcctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} IFS=$'\n' line
	COMPREPLY=()
	while read -r line; do
		if [[ $line == :file ]]; then
			compopt -o filenames
			COMPREPLY+=($(compgen -f -- "$cur"))
		else
			COMPREPLY+=("${line%%$'\t'*}")
		fi
	done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _bmcctl bmcctl
`

const zshScript = `#compdef bmcctl
# bmcctl completion zsh > "${fpath[1]}/_bmcctl"
_bmcctl() {
	local line; local -a words_found
	for line in "${(@f)$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		if [[ $line == :file ]]; then
			_files
		elif [[ $line == *$'\t'* ]]; then
			words_found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
		elif [[ -n $line ]]; then
			words_found+=("${line//:/\\:}")
		fi
	done
	(( $#words_found )) && _describe bmcctl words_found
}
if [[ $funcstack[1] == _bmcctl ]]; then
	_bmcctl "$@" # loaded at the first use
else
	compdef _bmcctl bmcctl
fi
`

const fishScript = `# bmcctl completion fish > ~/.config/fish/completions/bmcctl.fish
function __bmcctl
	set -l words (commandline -opc) (commandline -ct)
	for line in ($words[1] __complete $words[2..-1] 2>/dev/null)
		if test "$line" = :file
			__fish_complete_path (commandline -ct)
		else
			echo $line
		end
	end
end
complete -c bmcctl -f -a '(__bmcctl)'
`

// complete prints what the last of the words may become.
func (p *program) complete(words []string) error {
	for _, c := range p.candidates(table(), words) {
		if _, err := fmt.Fprintln(p.stdout, c); err != nil {
			return err
		}
	}
	return nil
}

func (p *program) candidates(all []command, words []string) (found []string) {
	if len(words) == 0 {
		words = []string{""}
	}
	last := words[len(words)-1]
	add := func(word, help string) {
		if strings.HasPrefix(word, last) {
			if help != "" {
				word += "\t" + help
			}
			found = append(found, word)
		}
	}
	// The words before are read as run reads them, so that a flag's value is not
	// taken for a command.
	f := p.flags("")
	plain, pending := skim(f, words[:len(words)-1])
	cmd, used := find(all, plain)
	if cmd != nil {
		f = p.flags("")
		cmd.setup(f)
		plain, pending = skim(f, words[:len(words)-1])
	}
	if pending != nil {
		return p.valuesOf(pending, last)
	}
	if strings.HasPrefix(last, "-") {
		f.VisitAll(func(one *flag.Flag) {
			_, help := flag.UnquoteUsage(one)
			add("-"+one.Name, help)
		})
		return found
	}
	seen := map[string]bool{}
	for _, c := range below(all, plain) {
		name := strings.Fields(c.name)
		if len(name) <= len(plain) || seen[name[len(plain)]] {
			continue
		}
		word, help := name[len(plain)], ""
		if seen[word] = true; len(name) == len(plain)+1 {
			help = c.help
		}
		add(word, help)
	}
	if cmd == nil {
		return found
	}
	n := len(plain) - used
	for _, v := range cmd.choices(n) {
		add(v, "")
	}
	if cmd.name == "profile use" || cmd.name == "profile rm" || cmd.name == "profile trust" {
		for _, name := range p.profileNames() {
			add(name, "")
		}
	}
	if cmd.takesFile(n) {
		found = append(found, fileMark)
	}
	return found
}

// skim parts words from flags. pending is the flag at the end whose value is still
// to come.
func skim(f *flag.FlagSet, args []string) (words []string, pending *flag.Flag) {
	for i := 0; i < len(args); i++ {
		name, isFlag := strings.CutPrefix(args[i], "-")
		if !isFlag || name == "" {
			words = append(words, args[i])
			continue
		}
		one := f.Lookup(strings.TrimPrefix(name, "-"))
		if one == nil || strings.Contains(name, "=") {
			continue
		}
		if b, is := one.Value.(interface{ IsBoolFlag() bool }); is && b.IsBoolFlag() {
			continue
		}
		if i++; i == len(args) {
			return words, one
		}
	}
	return words, nil
}

// valuesOf are those of a flag.
func (p *program) valuesOf(f *flag.Flag, last string) (found []string) {
	var all []string
	switch f.Name {
	case "p":
		all = p.profileNames()
	case "o":
		all = []string{"table", "json"}
	case "severity":
		all = []string{"OK", "Warning", "Critical"}
	case "ipv6":
		all = []string{"on", "off"}
	case "apply":
		all = []string{"Immediate", "OnReset", "OnStartUpdateRequest"}
	case "password-file", "new-password-file", "ca":
		return []string{fileMark}
	}
	for _, v := range all {
		if strings.HasPrefix(v, last) {
			found = append(found, v)
		}
	}
	return found
}

// profileNames are for completion, which has nobody to tell that the file is bad.
func (p *program) profileNames() []string {
	c, err := p.load()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(c.Profiles))
}
