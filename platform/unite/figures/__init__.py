"""Every plot, drawn once: as SVG inside the report, and as SVG and PNG files.

A plot is a `Figure` of panels (chart.py), made of numbers by dynamics, alignment, trajectory,
entropy, guidance and, for sweeps, `unite.ablation.figure`. draw.py places a panel's marks, sheet.py
puts panels beside each other; svg.py and png.py write the same marks.

Own marks instead of matplotlib: the page needs charts that follow its colours, light and dark, with
tooltips and a name for screen readers, in 4 kB each where matplotlib's take 25; the files need the
same drawing, byte for byte the same each time; and a driver does not wait a second for an import.
Pillow, which reads and writes all other pictures too, fills the pixels and brings the font.
"""
