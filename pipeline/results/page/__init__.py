"""The page of a report: its chapters, sections and charts. Nothing is measured here.

Read page.py first; then temperature.py, which is a section with charts. Templates are in results/templates/page/.
"""
