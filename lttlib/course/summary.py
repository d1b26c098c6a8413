"""All models of a profile side by side: a table of what their cards tell, and a page to read it on."""

PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>
body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 60rem; margin: auto; padding: 1rem; color: #222 }}
img {{ max-width: 100%; height: auto }} figure {{ margin: 1.5rem 0 }} figcaption {{ color: #444 }}
.wide {{ overflow-x: auto }} table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th, td {{ padding: .25rem .6rem; border-top: 1px solid #ccc; text-align: right; white-space: nowrap }}
th:nth-child(-n+3), td:nth-child(-n+3) {{ text-align: left }}</style>
<h1>{title}</h1>
{body}
</html>
"""
