"""What is measured, each `(system, task) -> figures by name`, alone in a fresh process."""
