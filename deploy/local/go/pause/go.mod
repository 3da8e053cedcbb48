module homeostat.dev/pause

go 1.26.4
