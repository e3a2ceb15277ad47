# What other rooms may use of this one. The package loads each name when it is first asked for.
