"""The report: one HTML file that holds all it shows. Import ``write_page`` from here."""

from v2w_gym.evaluation.page.writing import Sources, write_page

__all__ = ["Sources", "write_page"]
