"""JupyterLab for a course folder: whatever a page or a notebook holds, the browser loads nothing from elsewhere.

`make grade` writes this file anew. Used as: jupyter lab --config=formgrader/jupyter_server_config.py
"""

c = get_config()  # noqa: F821 (traitlets gives it)

POLICY = (
    "default-src 'self' data: blob:",
    "script-src 'self' blob: 'unsafe-inline' 'unsafe-eval'",
    "style-src 'self' 'unsafe-inline'",
    "connect-src 'self' data: blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'self'",
)
c.ServerApp.tornado_settings = {"headers": {"Content-Security-Policy": "; ".join(POLICY)}}
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
