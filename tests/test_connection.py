from __future__ import annotations

import ssl

from geartrain.connection import default_tls


def test_the_default_for_tls_verifies_certificate_and_name() -> None:
    context = default_tls()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
