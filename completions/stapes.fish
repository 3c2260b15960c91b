complete --keep-order --exclusive --command stapes --arguments "(COMPLETE=fish stapes -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
