"""Every model call goes this way: asked once, kept on arrival, paid for once."""
