"""What lies on disk: records as JSON with a checksum, and journals of JSON lines.

`jsonio` reads and writes records atomically, `journal` appends rows and reads them back, and
`source` hashes what a module says. `upgrade` reads what earlier versions wrote. The types of the
records are in the rooms that make them.
"""
