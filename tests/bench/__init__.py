"""`make bench`: beside `influxd backup|restore -portable`, and alone at great size.

Figures are of whole commands, start-up included, and are compared within one round. Ours store
durably before they end and read back what they restore; the original does neither.
"""
